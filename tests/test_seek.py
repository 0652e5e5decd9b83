"""Looking into the middle of a video gives what reading all of it gives."""

from bisect import bisect_right
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from faceswap_cli.core.types import Image
from faceswap_cli.video.reader import read_frames, read_frames_at, resume_frames

TICKS = [0, 3, 4, 9, 10, 11, 15, 20, 22, 23, 30, 31, 32, 40, 41, 44, 50, 51, 53, 60]
"""Frames at uneven distances, the way phones record."""


@pytest.fixture(params=["open.mp4", "open.mkv", "even.avi", "late.mp4"])
def clip(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A clip with frames stored out of order and few of them whole pictures."""
    path = tmp_path / request.param
    ticks = list(range(len(TICKS))) if path.suffix == ".avi" else TICKS
    late = 100 if path.stem == "late" else 0
    with av.open(str(path), "w") as output:
        options = {"g": "7", "bf": "2", "x264-params": "open-gop=1:scenecut=0"}
        stream = output.add_stream("libx264", rate=30, width=64, height=48, options=options)
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 30)
        for index, tick in enumerate(ticks):
            frame = VideoFrame.from_ndarray(_picture(index))
            frame.pts, frame.time_base = tick + late, Fraction(1, 30)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def _picture(index: int) -> Image:
    """Return a picture unlike those before it."""
    return np.random.default_rng(index).integers(0, 255, (48, 64, 3), dtype=np.uint8)


def test_a_moment_shows_the_frame_that_a_player_would(clip: Path) -> None:
    """Between two frames it is the earlier one, before the first the first, at the end the last."""
    frames = list(read_frames(clip))
    shown = [frame.time for frame in frames]
    step = Fraction(1, 90)
    moments = [shown[11] + step, shown[0] - 1, shown[3], shown[-1] + 5, shown[0], shown[7] - step]
    found = list(read_frames_at(clip, moments))
    assert list(range(len(moments))) == [frame.index for frame in found]
    for moment, frame in zip(moments, found, strict=True):
        expected = frames[max(0, bisect_right(shown, moment) - 1)]
        assert expected.time == frame.time
        np.testing.assert_array_equal(expected.image, frame.image)


@pytest.mark.parametrize("index", [0, 1, 6, 13, 19])
def test_reading_on_is_reading_all_but_the_beginning(clip: Path, index: int) -> None:
    """Index, time and every pixel are those of one reading from the start."""
    frames = list(read_frames(clip))
    later = list(resume_frames(clip, index=index, time=frames[index].time))
    assert [frame.index for frame in frames[index:]] == [frame.index for frame in later]
    for expected, frame in zip(frames[index:], later, strict=True):
        assert expected.time == frame.time
        np.testing.assert_array_equal(expected.image, frame.image)


def test_a_time_that_no_frame_has_is_counted_to(clip: Path) -> None:
    """Where seeking does not lead to the frame asked for, the frames before it are counted."""
    frames = list(read_frames(clip))
    later = list(resume_frames(clip, index=5, time=frames[5].time + Fraction(1, 1000)))
    assert [frame.index for frame in frames[5:]] == [frame.index for frame in later]
    np.testing.assert_array_equal(frames[5].image, later[0].image)
