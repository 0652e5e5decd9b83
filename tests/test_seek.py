"""Frames found by seeking are those of a reading from the start."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from faceswap_cli.core.types import Image
from faceswap_cli.video.frame import Frame, FramePosition
from faceswap_cli.video.reader import VideoReader, read_frames

TICKS = [0, 3, 4, 9, 10, 11, 15, 20, 22, 23, 30, 31, 32, 40, 41, 44, 50, 51, 53, 60]
"""Frames at irregular intervals, as phones record them."""


@pytest.fixture(
    params=[
        "open.mp4",
        "open.mkv",
        "even.avi",
        "late.mp4",
        "open.ts",
        "late.ts",
        "joined.ts",
        "bare.h264",
    ]
)
def clip(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A clip with frames stored out of order and few key frames."""
    path = tmp_path / request.param
    if path.stem == "joined":
        parts = [
            write_clip(tmp_path / f"{part.start}.ts", part) for part in (slice(11), slice(11, 20))
        ]
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
        return path
    return write_clip(path)


def write_clip(path: Path, part: slice = slice(None)) -> Path:
    """Write a clip, or a part of it whose clock starts again."""
    ticks = list(range(len(TICKS))) if path.suffix == ".avi" else TICKS
    late = 100 if path.stem == "late" else 0
    with av.open(str(path), "w") as output:
        options = {"g": "7", "bf": "2", "x264-params": "open-gop=1:scenecut=0"}
        stream = output.add_stream("libx264", rate=30, width=64, height=48, options=options)
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 30)
        chosen = list(enumerate(ticks))[part]
        for index, tick in chosen:
            frame = VideoFrame.from_ndarray(make_image(index))
            frame.pts, frame.time_base = tick - chosen[0][1] + late, Fraction(1, 30)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def make_image(index: int) -> Image:
    """Return an image that differs from those before it."""
    return np.random.default_rng(index).integers(0, 255, (48, 64, 3), dtype=np.uint8)


def test_a_time_gives_the_frame_that_a_player_shows(clip: Path) -> None:
    """Between two frames it is the earlier one, before the first the first, at the end the last."""
    frames = list(read_frames(clip))
    shown = [frame.time for frame in frames]
    step = Fraction(1, 90)
    times = [shown[11] + step, shown[0] - 1, shown[3], shown[-1] + 5, shown[0], shown[7] - step]
    positions = [FramePosition(index=9 - n, time=time) for n, time in enumerate(times)]
    with VideoReader(clip) as reader:
        found = list(reader.frames_at(positions))
    assert [position.index for position in positions] == [frame.index for frame in found]
    for time, frame in zip(times, found, strict=True):
        expected = frames[max(0, bisect_right(shown, time) - 1)]
        assert_same_frames([expected], [replace(frame, index=expected.index)])


@pytest.mark.parametrize("index", [0, 1, 6, 13, 18])
def test_resuming_gives_the_frames_after_the_last_one(clip: Path, index: int) -> None:
    """Index, time and every pixel are those of one reading from the start."""
    frames = list(read_frames(clip))
    with VideoReader(clip) as reader:
        later = list(reader.frames(resume_after=frames[index].position))
    assert_same_frames(frames[index + 1 :], later)


@pytest.mark.parametrize("index", [0, 1, 6, 13, 19])
def test_a_start_leaves_out_the_frames_before_it(clip: Path, index: int) -> None:
    """Index, time and every pixel are those of one reading from the start."""
    frames = list(read_frames(clip))
    with VideoReader(clip) as reader:
        assert_same_frames(frames[index:], list(reader.frames(start=frames[index].time)))
        between = frames[index].time - Fraction(1, 1000)
        assert_same_frames(frames[index:], list(reader.frames(start=between)))


def test_a_time_that_no_frame_has_is_counted_to(clip: Path) -> None:
    """Where seeking does not lead to the last frame that was read, frames are counted."""
    frames = list(read_frames(clip))
    wrong = FramePosition(index=5, time=frames[5].time + Fraction(1, 1000))
    with VideoReader(clip) as reader:
        assert_same_frames(frames[6:], list(reader.frames(resume_after=wrong)))


def test_a_reader_reads_any_number_of_times(clip: Path) -> None:
    """Whatever was read before, `frames()` begins with the first one."""
    expected = list(read_frames(clip))
    with VideoReader(clip) as reader:
        next(reader.frames())
        assert_same_frames(expected, list(reader.frames()))
        next(reader.frames(start=expected[9].time))
        assert_same_frames(expected, list(reader.frames()))


def assert_same_frames(expected: Sequence[Frame], found: Sequence[Frame]) -> None:
    """Check that index, time and every pixel are the same."""
    assert [frame.position for frame in expected] == [frame.position for frame in found]
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
