"""What every source of frames and every resumable writer does: a table of cases, one suite each."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fakes import read_frame_number, remux, stamp_frame_number
from PIL import Image as Pillow

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.lazy_image import Rect
from faceswap_cli.core.types import Image
from faceswap_cli.video.frame import Frame, FramePosition
from faceswap_cli.video.image_sequence import ImageSequenceWriter
from faceswap_cli.video.probe import probe
from faceswap_cli.video.resumable import ResumableOutput, open_output
from faceswap_cli.video.segments import SegmentedWriter
from faceswap_cli.video.source import FrameSource, ImageSequence, VideoSource, find_sources
from faceswap_cli.video.time_range import TimeRange
from faceswap_cli.video.writer import VideoWriter

FRAMES = 20
RATE = Fraction(25)
SIZE = (96, 64)
AREA = Rect(40, 20, 72, 52)
"""Where the writers' tests change the frames; on even pixels, so that no color sample is shared."""

# --- the sources ---------------------------------------------------------------------------------


def make_image(number: int) -> Image:
    """Return a gray image that differs from the others and has its number in its corner."""
    noise = np.random.default_rng(number).integers(60, 200, (8, 12, 1), dtype=np.uint8)
    return stamp_frame_number(noise.repeat(8, axis=0).repeat(8, axis=1).repeat(3, axis=2), number)


def write_video(path: Path) -> Path:
    """Write a video of numbered frames at a regular rate."""
    with VideoWriter(path, size=SIZE, rate=RATE, quality=4) as writer:
        for index in range(FRAMES):
            writer.write(make_image(index), index / RATE)
    return path


def write_mp4(folder: Path) -> Path:
    """Write a video whose first time stamp is 0."""
    return write_video(folder / "plain.mp4")


def write_broadcast(folder: Path) -> Path:
    """Write an MPEG transport stream whose first time stamp is ten hours."""
    return remux(write_video(folder / "plain.mp4"), folder / "late.ts", start_s=36_000)


def write_matroska(folder: Path) -> Path:
    """Write a video whose time stamps are rounded to milliseconds."""
    return write_video(folder / "plain.mkv")


def write_images(folder: Path) -> Path:
    """Write a folder of numbered images."""
    (folder / "images").mkdir()
    for index in range(FRAMES):
        image_io.write_png(folder / "images" / f"{index:03}.png", make_image(index))
    return folder / "images"


def write_animation(path: Path) -> Path:
    """Write an animated image of numbered frames; lossless, or nearly so."""
    first, *others = (Pillow.fromarray(make_image(index)) for index in range(FRAMES))
    first.save(
        path,
        save_all=True,
        append_images=others,
        duration=int(1000 / RATE),
        quality=100,
        subsampling="4:4:4",
    )
    return path


def write_apng(folder: Path) -> Path:
    """Write an animated PNG, which declares no duration."""
    return write_animation(folder / "plain.png")


def write_avif(folder: Path) -> Path:
    """Write an animated AVIF, which begins with a still picture in a stream of its own."""
    return write_animation(folder / "plain.avif")


WriteSource = Callable[[Path], Path]
SOURCES: dict[str, WriteSource] = {
    "mp4": write_mp4,
    "ts": write_broadcast,
    "mkv": write_matroska,
    "images": write_images,
    "apng": write_apng,
    "avif": write_avif,
}


@pytest.fixture(scope="module", params=sorted(SOURCES))
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FrameSource:
    """Each kind of source, of `FRAMES` numbered frames."""
    path = SOURCES[request.param](tmp_path_factory.mktemp(request.param))
    (opened,) = find_sources([path])
    return opened


def read(
    source: FrameSource,
    time_range: TimeRange | None = None,
    resume_after: FramePosition | None = None,
) -> list[Frame]:
    """Return the frames of a source, of which nothing may be missing."""
    return list(
        source.frames(
            note=pytest.fail, time_range=time_range or TimeRange(), resume_after=resume_after
        )
    )


def numbers(frames: Sequence[Frame]) -> list[int]:
    """Return the numbers in the frames' corners."""
    return [read_frame_number(frame.image) for frame in frames]


def test_frames_are_numbered_in_order(source: FrameSource) -> None:
    """Indices count from 0, times grow from the source's first by the rate."""
    frames = read(source)
    assert list(range(FRAMES)) == [frame.index for frame in frames] == numbers(frames)
    assert source.start_time == frames[0].time
    for frame in frames:
        expected = source.start_time + frame.index / RATE
        assert abs(expected - frame.time) <= Fraction(1, 1000)


def test_properties_have_their_types(source: FrameSource) -> None:
    """The count is that of the frames, the rate in frames a second."""
    assert source.count == pytest.approx(FRAMES, abs=1)
    assert RATE == pytest.approx(source.average_rate, rel=0.05)
    assert isinstance(source.start_time, Fraction)
    assert source.name.startswith(source.stem)
    assert [] == list(source.warnings)


def test_frames_are_upright_rgb(source: FrameSource) -> None:
    """Every frame is uint8 (H, W, 3) of the size that its view has, and shows what was written."""
    for frame in read(source):
        assert SIZE == frame.view.size
        assert (*SIZE[::-1], 3) == frame.image.shape
        assert np.uint8 == frame.image.dtype
        difference = np.abs(frame.image.astype(int) - make_image(frame.index)).mean()
        assert difference < 3


def test_a_second_reading_is_the_same(source: FrameSource) -> None:
    """Frames do not depend on what was read before, whole or in part."""
    first = read(source)
    next(iter(source.frames(note=pytest.fail)))
    assert_same(first, read(source))


@pytest.mark.parametrize("last", [0, 1, 7, FRAMES - 2, FRAMES - 1])
def test_resuming_yields_the_frames_after_the_last_one(source: FrameSource, last: int) -> None:
    """They have the same index, time and pixels as in one reading."""
    frames = read(source)
    assert_same(frames[last + 1 :], read(source, resume_after=frames[last].position))


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (Fraction(0), Fraction(5, 25), range(5)),
        (Fraction(5, 25), None, range(5, FRAMES)),
        (Fraction(9, 50), Fraction(29, 50), range(5, 15)),
        (Fraction(19, 25), Fraction(9), range(19, FRAMES)),
        (Fraction(9), None, range(0)),
    ],
)
def test_a_range_counts_from_the_first_frame(
    source: FrameSource, start: Fraction, end: Fraction | None, expected: range
) -> None:
    """Start is included and end is not; indices and times are those of the whole source."""
    frames = read(source)
    part = read(source, TimeRange(start=start, end=end))
    assert list(expected) == [frame.index for frame in part]
    assert_same([frames[index] for index in expected], part)


def test_a_range_is_resumed(source: FrameSource) -> None:
    """The end stays where it was."""
    frames = read(source)
    time_range = TimeRange(start=Fraction(4, 25), end=Fraction(12, 25))
    assert_same(frames[9:12], read(source, time_range, frames[8].position))


def test_positions_are_read_in_any_order(source: FrameSource) -> None:
    """A frame found by its position is the one of a whole reading."""
    frames = read(source)
    chosen = [frames[index] for index in (11, 3, 0, FRAMES - 1, 3)]
    assert_same(chosen, list(source.frames_at([frame.position for frame in chosen])))


def test_the_description_is_that_of_the_content(source: FrameSource, tmp_path: Path) -> None:
    """It is the same every time, JSON can hold it, and other content has another one."""
    assert source.describe() == source.describe()
    assert all(isinstance(value, str | int) for value in source.describe().values())
    image_io.write_png(tmp_path / "one.png", make_image(99))
    (other,) = find_sources([tmp_path])
    differing = {"bytes", "sha256_of_ends"}
    assert differing <= source.describe().keys() & other.describe().keys()
    assert source.describe()["sha256_of_ends"] != other.describe()["sha256_of_ends"]


def assert_same(expected: Sequence[Frame], found: Sequence[Frame]) -> None:
    """Check that index, time and every pixel are the same."""
    assert [frame.position for frame in expected] == [frame.position for frame in found]
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


# --- the resumable writers -----------------------------------------------------------------------

WRITERS = {"mp4": SegmentedWriter, "images": ImageSequenceWriter}
OUTPUTS = {"mp4": "out.mkv", "images": "out"}
SEGMENT_FRAMES = 4
"""Frames of a segment here, so that a stopped video has several."""


class Job:
    """A source, and an output that can be stopped and resumed.

    Args:
        kind: A name in `WRITERS`.
        path: The source.
        folder: Where the work and the output are.
    """

    def __init__(self, kind: str, path: Path, folder: Path) -> None:
        (source,) = find_sources([path])
        assert isinstance(source, VideoSource | ImageSequence)
        self.kind, self.path, self.source = kind, path, source
        self.folder = folder / "work"
        self.output = folder / OUTPUTS[kind]

    def open(self, key: str = "key") -> ResumableOutput:
        """Return the writer, as far as it got."""
        writer = open_output(
            self.source, self.output, folder=self.folder, key=key, quality=0, hardware=False
        )
        assert isinstance(writer, WRITERS[self.kind])
        if isinstance(writer, SegmentedWriter):
            writer._segment_frames = SEGMENT_FRAMES
        return writer

    def run(self, *, stop: int | None = None, key: str = "key") -> ResumableOutput:
        """Write the frames that are missing, black in `AREA`; stop at number `stop`."""
        writer = self.open(key)
        with writer:
            done = writer.frames_done
            for frame in self.source.frames(note=pytest.fail):
                if frame.index < done:
                    continue
                if frame.index == stop:
                    raise KeyboardInterrupt
                black = np.zeros_like(frame.image)
                writer.write(black, frame.time, original=frame.original, changed=[AREA])
        return writer

    def read_output(self) -> list[Frame]:
        """Return the frames of the finished output."""
        (made,) = find_sources([self.output])
        return read(made)


@pytest.fixture(params=sorted(WRITERS))
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Job:
    """Each kind of output."""
    return Job(request.param, SOURCES[request.param](tmp_path), tmp_path)


def test_only_the_changed_area_changes(job: Job) -> None:
    """Every other sample is the source's, and times stay."""
    job.run().finalize(job.output)
    for before, after in zip(read(job.source), job.read_output(), strict=True):
        assert before.time == after.time
        assert after.image[AREA.slices].max() < 4
        outside = np.ones(after.image.shape[:2], bool)
        outside[Rect(AREA.left - 2, AREA.top - 2, AREA.right + 2, AREA.bottom + 2).slices] = False
        np.testing.assert_array_equal(before.image[outside], after.image[outside])


@pytest.mark.parametrize("stop", [0, 1, 9, FRAMES - 1])
def test_a_stopped_output_is_resumed_to_the_same_frames(
    job: Job, tmp_path: Path, stop: int
) -> None:
    """Nothing finished is lost, nothing is in place before the end, and the result is the same."""
    whole = Job(job.kind, job.path, tmp_path / "whole")
    whole.run().finalize(whole.output)
    with pytest.raises(KeyboardInterrupt):
        job.run(stop=stop)
    assert stop - SEGMENT_FRAMES < job.open().frames_done <= stop
    assert not job.output.exists()
    job.run().finalize(job.output)
    assert_same(whole.read_output(), job.read_output())


def test_another_key_starts_over(job: Job) -> None:
    """What other settings made is removed."""
    assert FRAMES == job.run().frames_done
    assert FRAMES == job.open().frames_done
    assert 0 == job.open("other").frames_done
    assert 0 == job.open().frames_done


def test_an_empty_output_is_refused(job: Job) -> None:
    """Without a frame nothing is written."""
    with pytest.raises(InputError, match="not one"):
        job.open().finalize(job.output)
    assert not job.output.exists()


def test_a_finished_output_can_be_finalized_again(job: Job) -> None:
    """A crash after the last frame costs no frame."""
    job.run()
    assert [] == job.open().finalize(job.output)
    first = job.read_output()
    assert [] == job.open().finalize(job.output)
    assert_same(first, job.read_output())


def test_discarding_leaves_nothing(job: Job) -> None:
    """The folder of the unfinished work is removed, the output is not."""
    writer = job.run()
    writer.finalize(job.output)
    writer.discard()
    assert not job.folder.exists()
    assert 0 == writer.frames_done
    assert FRAMES == len(job.read_output())


def test_the_source_is_not_changed(job: Job) -> None:
    """Its content is the same after everything was written."""
    before = job.source.describe()
    job.run().finalize(job.output)
    assert before == job.source.describe()
    if isinstance(job.source, VideoSource):
        assert SIZE == probe(job.output).size
