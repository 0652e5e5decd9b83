"""What is written to a video is read from it: times, audio, colors, orientation."""

import errno
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.codec.context import Flags
from av.stream import Disposition
from av.video.frame import VideoFrame

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.types import AnyArray, Image
from faceswap_cli.video import segment_file
from faceswap_cli.video.color import BT709, ColorTags
from faceswap_cli.video.frame import MissingSpan
from faceswap_cli.video.probe import probe
from faceswap_cli.video.reader import VideoReader, read_frames
from faceswap_cli.video.source import VideoSource
from faceswap_cli.video.time_range import TimeRange
from faceswap_cli.video.writer import AudioTrack, VideoWriter

WIDTH, HEIGHT = 96, 64
RED, GREEN, BLUE, GRAY = (220, 40, 30), (30, 200, 60), (40, 50, 210), (128, 128, 128)


# --- clips -------------------------------------------------------------------------------------


def make_corners(width: int = WIDTH, height: int = HEIGHT) -> Image:
    """Return an image of four corners in four colors: every rotation and mirroring differs."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = RED
    image[: height // 2, width // 2 :] = GREEN
    image[height // 2 :, : width // 2] = BLUE
    image[height // 2 :, width // 2 :] = GRAY
    return image


def encode(
    path: Path,
    frames: Sequence[VideoFrame],
    *,
    ticks: Sequence[int],
    time_base: Fraction,
    codec: str = "libx264",
    tags: ColorTags = BT709,
    aspect: Fraction = Fraction(1),
    audio_streams: int = 0,
    audio_seconds: int = 1,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a clip with bare PyAV, so that the reader is not tested by our own writer."""
    container_options = {"movflags": "+faststart", "movie_timescale": str(time_base.denominator)}
    container_options = {} if path.suffix == ".avi" else container_options
    with av.open(str(path), "w", container_options=container_options) as output:
        stream = output.add_stream(
            codec,
            rate=30,
            width=frames[0].width,
            height=frames[0].height,
            time_base=time_base,
            options=options or {},
        )
        context = stream.codec_context
        context.pix_fmt = frames[0].format.name
        context.sample_aspect_ratio = aspect
        context.color_primaries = tags.primaries or 2
        context.color_trc = tags.transfer or 2
        context.colorspace = tags.matrix or 2
        context.color_range = tags.range or 0
        context.flags |= Flags.frame_duration
        streams = [output.add_stream("aac", rate=44_100) for _ in range(audio_streams)]
        for audio, language in zip(streams, ["eng", "jpn"], strict=False):
            audio.metadata["language"] = language
        for frame, tick in zip(frames, ticks, strict=True):
            frame.pts, frame.time_base = tick, time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        for pitch, audio in enumerate(streams):
            tone = np.sin(np.arange(44_100 * audio_seconds) * (0.02 + 0.01 * pitch)).astype(
                np.float32
            )
            samples = AudioFrame.from_ndarray(
                np.stack([tone, tone]), format="fltp", layout="stereo"
            )
            samples.sample_rate, samples.pts = 44_100, 0
            output.mux(audio.encode(samples))
            output.mux(audio.encode(None))
    return path


def make_moving_frames(count: int, width: int = WIDTH, height: int = HEIGHT) -> list[VideoFrame]:
    """Return frames with a moving bar."""
    frames = []
    for index in range(count):
        image = make_corners(width, height)
        image[20:40, index % (width - 20) : index % (width - 20) + 20] = 255
        frames.append(VideoFrame.from_ndarray(image).reformat(format="yuv420p", dst_colorspace=1))
    return frames


def write_clip(path: Path, *, count: int = 30, audio_streams: int = 0) -> Path:
    """Write an ordinary clip of 30 frames a second."""
    return encode(
        path,
        make_moving_frames(count),
        ticks=range(count),
        time_base=Fraction(1, 30),
        audio_streams=audio_streams,
    )


def set_display_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Patch the display matrix (a, b, c, d) into an mp4's first track.

    ISO/IEC 14496-12, 8.3.2: nine fixed-point numbers, 40 bytes after the name of the box `tkhd`
    in its version 0.
    """
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4
    assert data[start] == 0
    a, b, c, d = (value << 16 for value in matrix)
    struct.pack_into(">9i", data, start + 40, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def read_times(path: Path) -> list[Fraction]:
    """Return the times of a video's frames."""
    return [frame.time for frame in read_frames(path)]


def rewrite(source: Path, target: Path) -> VideoWriter:
    """Read a clip and write every frame back as convert would."""
    info = probe(source)
    with VideoWriter(
        target, size=info.size, rate=info.average_rate, time_base=info.time_base, copy_from=source
    ) as video:
        for frame in read_frames(source):
            video.write(frame.image, frame.time)
    return video


def read_packets(path: Path, kind: str) -> list[list[tuple[Fraction, bytes]]]:
    """Return each stream's packets of a kind: presentation time and bytes."""
    with av.open(str(path)) as container:
        chosen = [stream for stream in container.streams if stream.type == kind]
        found: dict[int, list[tuple[Fraction, bytes]]] = {stream.index: [] for stream in chosen}
        for packet in container.demux():
            if packet.size and packet.stream_index in found:
                stamp = (packet.pts or 0) * packet.time_base
                found[packet.stream_index].append((stamp, bytes(packet)))
    return list(found.values())


# --- times -------------------------------------------------------------------------------------

STAMPS = {
    "constant": (range(0, 24), Fraction(1, 30)),
    "29.97": (range(0, 24 * 1001, 1001), Fraction(1, 30_000)),
    "variable": ([0, 40, 41, 2_900, 3_003, 9_000, 9_001, 60_000, 60_300], Fraction(1, 90_000)),
    "starting late": (range(17_000, 17_000 + 12 * 1_001, 1_001), Fraction(1, 30_000)),
}


@pytest.mark.parametrize("name", STAMPS)
def test_times_are_read_and_written_to_the_tick(name: str, tmp_path: Path) -> None:
    """Every frame has the file's own time, read and written back."""
    ticks, time_base = STAMPS[name]
    frames = make_moving_frames(len(ticks))
    source = encode(tmp_path / "in.mp4", frames, ticks=ticks, time_base=time_base)
    assert [tick * time_base for tick in ticks] == read_times(source)
    rewrite(source, tmp_path / "out.mp4")
    assert read_times(source) == read_times(tmp_path / "out.mp4")


def test_matroska_times_are_exact_to_its_millisecond(tmp_path: Path) -> None:
    """An .mkv made of an .mp4 is off by half a millisecond at most, and by nothing next time."""
    ticks, time_base = STAMPS["29.97"]
    source = encode(
        tmp_path / "in.mp4",
        make_moving_frames(24),
        ticks=ticks,
        time_base=time_base,
        audio_streams=1,
    )
    rewrite(source, tmp_path / "once.mkv")
    rewrite(tmp_path / "once.mkv", tmp_path / "twice.mkv")
    errors = [
        abs(a - b)
        for a, b in zip(read_times(source), read_times(tmp_path / "once.mkv"), strict=True)
    ]
    assert max(errors) <= Fraction(1, 2_000)
    assert read_times(tmp_path / "once.mkv") == read_times(tmp_path / "twice.mkv")


def test_avi_has_regular_times_though_it_stores_none(tmp_path: Path) -> None:
    """Frames that are stored out of order are read in the order of showing."""
    source = write_clip(tmp_path / "in.avi", count=20)
    assert [Fraction(index, 30) for index in range(20)] == read_times(source)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("name", STAMPS)
def test_the_last_frame_has_the_duration_of_the_source(
    name: str, suffix: str, tmp_path: Path
) -> None:
    """The duration is preserved although no frame follows the last one."""
    ticks, time_base = STAMPS[name]
    frames = make_moving_frames(len(ticks))
    frames[-1].duration = 5 * round(1 / time_base / 30)
    source = encode(
        tmp_path / "in.mp4", frames, ticks=ticks, time_base=time_base, options={"bf": "0"}
    )
    rewrite(source, tmp_path / f"out{suffix}")
    expected = (ticks[-1] - ticks[0]) * time_base + Fraction(5, 30)
    assert expected == probe(source).duration
    shift = ticks[0] * time_base if suffix == ".mkv" else 0  # Matroska counts from 0
    actual = probe(tmp_path / f"out{suffix}").duration
    assert actual is not None
    assert abs(expected + shift - actual) <= (Fraction(1, 1000) if suffix == ".mkv" else 0)


def test_a_start_skips_frames(tmp_path: Path) -> None:
    """Reading from frame 7 gives what reading everything gives from frame 7."""
    source = write_clip(tmp_path / "in.mp4", count=12)
    everything = list(read_frames(source))
    with VideoReader(source) as reader:
        late = list(reader.frames(start=everything[7].time))
        assert [frame.position for frame in everything[7:]] == [frame.position for frame in late]
        assert np.array_equal(everything[7].image, late[0].image)
        assert list(reader.frames(start=everything[-1].time + 50)) == []


def test_times_that_do_not_grow_are_refused(tmp_path: Path) -> None:
    """Frames out of order are the caller's mistake, and leave nothing behind."""
    with (
        pytest.raises(ValueError, match="in the order of their times"),
        VideoWriter(tmp_path / "out.mp4", size=(WIDTH, HEIGHT), rate=Fraction(30)) as video,
    ):
        for time in (0, 2, 1):
            video.write(make_corners(), Fraction(time, 30))
    assert list(tmp_path.iterdir()) == []


# --- recordings that were joined -----------------------------------------------------------------


def write_capture(
    path: Path,
    *,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    start: int = 0,
    aspect: Fraction = Fraction(1),
    codec: str = "libx264",
    audio_streams: int = 0,
) -> bytes:
    """Return a transport stream of 1 s, 30 frames a second, whose clock begins at `start` s."""
    with av.open(str(path), "w", format="mpegts") as output:
        stream = output.add_stream(codec, rate=30, width=size[0], height=size[1])
        stream.pix_fmt, stream.codec_context.sample_aspect_ratio = "yuv420p", aspect
        streams = [output.add_stream("aac", rate=48_000) for _ in range(audio_streams)]
        for index in range(30):
            frame = VideoFrame.from_ndarray(np.full((size[1], size[0], 3), 200, np.uint8))
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = start * 30 + index, Fraction(1, 30)
            output.mux(stream.encode(frame))
            for audio in streams:
                tone = np.zeros((2, 1_600), np.float32)
                samples = AudioFrame.from_ndarray(tone, format="fltp", layout="stereo")
                samples.sample_rate, samples.pts = 48_000, start * 48_000 + index * 1_600
                output.mux(audio.encode(samples))
        for one in (stream, *streams):
            output.mux(one.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
@pytest.mark.parametrize("start", [0, 3_600], ids=["clock-starts-again", "an-hour-later"])
def test_joined_captures_go_on_at_the_usual_rate(start: int, codec: str, tmp_path: Path) -> None:
    """A clock that jumps moves no frame, in any order of reading, and is said in one line.

    The frames of the second half were a tick apart, or an hour late.
    """
    source = tmp_path / "in.ts"
    first = write_capture(tmp_path / "1.ts", codec=codec)
    source.write_bytes(first + write_capture(tmp_path / "2.ts", start=start, codec=codec))
    notes: list[str] = []
    frames = list(VideoSource.open(source).frames(note=notes.append))
    expected = [frames[0].time + Fraction(index, 30) for index in range(60)]
    assert expected == [frame.time for frame in frames]
    note = "is joined from recordings: its clock jumps at 1.0 s: its frames go on at the usual rate"
    assert [f"in.ts {note}"] == notes
    with VideoReader(source) as reader:
        for index in (10, 29, 30, 45):
            after = reader.frames(resume_after=frames[index].position)
            assert [one.position for one in frames[index + 1 :]] == [one.position for one in after]
            late = reader.frames(start=frames[index].time)
            assert [one.position for one in frames[index:]] == [one.position for one in late]


def test_frames_of_another_shape_keep_their_aspect(tmp_path: Path) -> None:
    """They are fitted into the first one's size, with black beside them; they were stretched."""
    source = tmp_path / "in.ts"
    parts = [
        write_capture(tmp_path / "1.ts"),
        write_capture(tmp_path / "2.ts", size=(64, 64)),
        write_capture(tmp_path / "3.ts", aspect=Fraction(2)),
    ]
    source.write_bytes(b"".join(parts))
    notes: list[str] = []
    frames = list(VideoSource.open(source).frames(note=notes.append))
    assert 90 == len(frames)
    for index, size in ((0, (96, 64)), (29, (96, 64)), (30, (64, 64)), (59, (64, 64))):
        assert size == find_bright_size(frames[index].image)
    for index in (60, 89):
        assert (96, 32) == find_bright_size(frames[index].image)
    assert 1 == len(notes)
    assert notes[0].endswith(
        "frames of 64x64 and 96x64 px are fitted into 96x64 px, in their own aspect"
    )
    rewrite(source, tmp_path / "out.mp4")
    written = list(read_frames(tmp_path / "out.mp4"))
    assert (64, 64) == find_bright_size(written[45].image)


def find_bright_size(image: Image) -> tuple[int, int]:
    """Return (width, height) px of the part of an image that is not black."""
    assert image.shape == (HEIGHT, WIDTH, 3)
    bright = image[..., 1] > 100
    return int(bright.any(axis=0).sum()), int(bright.any(axis=1).sum())


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_the_sound_of_joined_captures_stays_with_the_image(suffix: str, tmp_path: Path) -> None:
    """Each half has its sound at its own time; it was "invalid argument", and no output.

    Where the sound of the first half lasts longer than its image, the second half's begins later.
    """
    halves = [
        write_capture(tmp_path / f"{start}.ts", start=start, audio_streams=2) for start in (100, 7)
    ]
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(halves))
    offset = read_times(tmp_path / "100.ts")[0] + 1 - read_times(tmp_path / "7.ts")[0]
    expected = [time for time, _ in read_packets(tmp_path / "100.ts", "audio")[0]]
    expected += [time + offset for time, _ in read_packets(tmp_path / "7.ts", "audio")[0]]
    writer = rewrite(source, tmp_path / f"out{suffix}")
    assert suffix == ".webm" or writer.notes == []
    first_frame = read_times(tmp_path / f"out{suffix}")[0]
    shift = read_times(source)[0] - first_frame
    for packets in read_packets(tmp_path / f"out{suffix}", "audio"):
        times = [time + shift for time, _ in packets]
        steps = [late - early for early, late in pairwise(times)]
        assert all(Fraction(1, 100) < step < Fraction(4, 100) for step in steps)
        if suffix != ".webm":
            assert abs(len(expected) - len(times)) <= 2
            assert min(abs(times[-1] - time) for time in expected) < Fraction(2, 1000)
            assert all(
                min(abs(time - one) for one in expected) < Fraction(2, 1000) for time in times
            )


def test_a_gap_in_one_recording_is_left(tmp_path: Path) -> None:
    """A clock that goes on while no frame is shown has not jumped: there is sound meanwhile."""
    source = tmp_path / "in.ts"
    with av.open(str(source), "w") as output:
        stream = output.add_stream("libx264", rate=30, width=WIDTH, height=HEIGHT)
        audio = output.add_stream("aac", rate=48_000)
        frames = dict(zip([*range(10), *range(400, 410)], make_moving_frames(20), strict=True))
        for index in range(420):
            if index in frames:
                frames[index].pts, frames[index].time_base = index, Fraction(1, 30)
                output.mux(stream.encode(frames[index]))
            tone = np.zeros((2, 1_600), np.float32)
            samples = AudioFrame.from_ndarray(tone, format="fltp", layout="stereo")
            samples.sample_rate, samples.pts = 48_000, index * 1_600
            output.mux(audio.encode(samples))
        output.mux(stream.encode(None))
        output.mux(audio.encode(None))
    times = read_times(source)
    assert Fraction(409, 30) == times[-1] - times[0]


# --- which stream ------------------------------------------------------------------------------


def write_streams(
    path: Path, streams: Sequence[tuple[str, tuple[int, int], Disposition, int]]
) -> None:
    """Write a file of several video streams: codec, (width, height) px, flags, frames."""
    with av.open(str(path), "w") as output:
        added = []
        for codec, (width, height), disposition, count in streams:
            stream = output.add_stream(codec, rate=30, width=width, height=height)
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.disposition = disposition
            added.append((stream, make_moving_frames(count, width, height)))
        for stream, frames in added:
            for index, frame in enumerate(frames):
                frame = frame.reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base = index, Fraction(1, 30)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))


SMALL, LARGE = (64, 48), (96, 64)
NO_FLAG, DEFAULT = Disposition(0), Disposition.default


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize(
    ("streams", "size"),
    [
        ([("libx264", LARGE, NO_FLAG, 9), ("libx264", SMALL, DEFAULT, 9)], SMALL),
        ([("mjpeg", LARGE, DEFAULT, 1), ("libx264", SMALL, NO_FLAG, 9)], SMALL),
        ([("mjpeg", LARGE, DEFAULT, 9), ("libx264", SMALL, NO_FLAG, 9)], LARGE),
        ([("libx264", SMALL, DEFAULT, 9), ("libx264", LARGE, DEFAULT, 9)], LARGE),
        ([("libx264", LARGE, DEFAULT, 9), ("libx264", SMALL, DEFAULT, 9)], LARGE),
        ([("mjpeg", LARGE, DEFAULT, 1)], LARGE),
    ],
    ids=["default", "picture", "moving-jpeg", "larger", "smaller", "only-a-picture"],
)
def test_the_stream_that_a_player_shows_is_read(
    streams: Sequence[tuple[str, tuple[int, int], Disposition, int]],
    size: tuple[int, int],
    suffix: str,
    tmp_path: Path,
) -> None:
    """The one with the default flag, else the largest; not a picture without the cover flag.

    It was the first one: LARGE in the first two cases, SMALL in the fourth.
    """
    path = tmp_path / f"in{suffix}"
    write_streams(path, streams)
    assert size == probe(path).size
    count = next(count for _, one, _, count in streams if one == size)
    assert count == len(read_times(path))


# --- orientation and size ----------------------------------------------------------------------

ROTATIONS = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


@pytest.mark.parametrize("degrees", ROTATIONS)
def test_a_rotated_clip_is_read_upright(degrees: int, tmp_path: Path) -> None:
    """A phone's clip stored on its side comes out upright, and is written upright."""
    stored = np.ascontiguousarray(np.rot90(make_corners(), k=degrees // 90))
    source = encode(
        tmp_path / "in.mp4",
        [VideoFrame.from_ndarray(stored).reformat(format="yuv420p", dst_colorspace=1)] * 1,
        ticks=[0],
        time_base=Fraction(1, 30),
        aspect=Fraction(4, 3),
        options={"crf": "4"},
    )
    set_display_matrix(source, ROTATIONS[degrees])
    info = probe(source)
    assert (degrees, (WIDTH, HEIGHT)) == (info.rotation, info.size)
    assert (Fraction(3, 4) if degrees % 180 else Fraction(4, 3)) == info.sample_aspect
    assert not info.mirrored
    (frame,) = read_frames(source)
    assert_corners_equal(make_corners(), frame.image)
    rewrite(source, tmp_path / "out.mp4")
    written = probe(tmp_path / "out.mp4")
    assert (0, info.size, info.sample_aspect) == (
        written.rotation,
        written.size,
        written.sample_aspect,
    )
    assert_corners_equal(make_corners(), next(read_frames(tmp_path / "out.mp4")).image)


@pytest.mark.parametrize(
    ("matrix", "stored", "degrees"),
    [
        ((-1, 0, 0, 1), make_corners()[:, ::-1], 0),
        ((1, 0, 0, -1), make_corners()[::-1], 180),
        ((0, 1, 1, 0), make_corners().transpose(1, 0, 2), 270),
        ((0, -1, -1, 0), make_corners()[::-1, ::-1].transpose(1, 0, 2), 90),
    ],
)
def test_a_mirrored_clip_is_read_as_shown(
    matrix: tuple[int, int, int, int], stored: AnyArray, degrees: int, tmp_path: Path
) -> None:
    """The four mirrored layouts of a display matrix are undone too."""
    rgb = VideoFrame.from_ndarray(np.ascontiguousarray(stored))
    frame = rgb.reformat(format="yuv420p", dst_colorspace=1)
    source = encode(tmp_path / "in.mp4", [frame], ticks=[0], time_base=Fraction(1, 30))
    set_display_matrix(source, matrix)
    assert (True, degrees) == (probe(source).mirrored, probe(source).rotation)
    assert_corners_equal(make_corners(), next(read_frames(source)).image)


def assert_corners_equal(expected: Image, actual: Image) -> None:
    """Compare the middles of the four corners; compression may touch the edges between them."""
    assert expected.shape == actual.shape
    height, width = expected.shape[:2]
    for y in (height // 4, 3 * height // 4):
        for x in (width // 4, 3 * width // 4):
            assert expected[y, x].tolist() == pytest.approx(actual[y, x].tolist(), abs=4)


@pytest.mark.parametrize("size", [(97, 64), (96, 65), (97, 65), (16, 18), (17, 33)])
def test_odd_sizes_are_preserved(size: tuple[int, int], tmp_path: Path) -> None:
    """A frame is as wide and as high after the round trip as before, with the same colors."""
    image = make_corners(*size)
    path = tmp_path / "odd.mp4"
    with VideoWriter(path, size=size, rate=Fraction(30), quality=4) as video:
        video.write(image, Fraction(0))
    assert size == probe(path).size
    assert_corners_equal(image, next(read_frames(path)).image)


def test_a_frame_of_another_size_is_refused(tmp_path: Path) -> None:
    """Frames are never scaled."""
    with (
        pytest.raises(ValueError, match="a frame of 60x40 px"),
        VideoWriter(tmp_path / "out.mp4", size=(WIDTH, HEIGHT), rate=Fraction(30)) as video,
    ):
        video.write(make_corners(60, 40), Fraction(0))


# --- colors ------------------------------------------------------------------------------------

KR_KB = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
"""The weights of red and blue in luma by matrix number: ITU-R BT.709, BT.601, BT.2020."""


def make_color_patches() -> Image:
    """Return a gray ramp and saturated colors in flat patches of 16 px, (64, 192, 3)."""
    levels = [0, 128, 255]
    colors = [(r, g, b) for r in levels for g in levels for b in levels]
    grays = [(value, value, value) for value in np.linspace(0, 255, 48 - 27).astype(int)]
    grid = np.array(colors + grays, np.uint8).reshape(4, 12, 3)
    return grid.repeat(16, axis=0).repeat(16, axis=1)


def patch_centers(image: Image) -> AnyArray:
    """Return the middle of every patch, (48, 3) int: chroma is shared across their edges."""
    return image[8::16, 8::16].reshape(-1, 3).astype(int)


def ycbcr(rgb: AnyArray, matrix: int, full: bool, bits: int) -> AnyArray:
    """Return the stored Y, Cb, Cr of RGB by the formulas of ITU-R BT.601/709/2020, (..., 3)."""
    kr, kb = KR_KB[matrix]
    r, g, b = np.moveaxis(rgb / 255, -1, 0)
    y = kr * r + (1 - kr - kb) * g + kb * b
    cb, cr = (b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)
    step = 2 ** (bits - 8)
    top = 2**bits - 1
    if full:
        stored = np.stack([y * top, cb * top + 128 * step, cr * top + 128 * step], -1)
    else:
        stored = np.stack([16 + 219 * y, 128 + 224 * cb, 128 + 224 * cr], -1) * step
    return np.clip(stored.round(), 0, top)


def frame_of_planes(stored: AnyArray, bits: int) -> VideoFrame:
    """Return a 4:2:0 frame of Y, Cb, Cr (H, W, 3), chroma taken where it is flat."""
    dtype, pixel_format = {8: (np.uint8, "yuv420p"), 10: (np.uint16, "yuv420p10le")}[bits]
    luma, *chroma = np.moveaxis(stored.astype(dtype), -1, 0)
    quarters = [plane[::2, ::2].reshape(-1, luma.shape[1]) for plane in chroma]
    return VideoFrame.from_ndarray(np.concatenate([luma, *quarters]), format=pixel_format)


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", KR_KB)
def test_reading_respects_matrix_range_and_depth(
    matrix: int, full: bool, bits: int, tmp_path: Path
) -> None:
    """A file made by the standards' own formulas reads as the colors it was made from."""
    stored = ycbcr(make_color_patches().astype(float), matrix, full, bits)
    frame = frame_of_planes(stored, bits)
    tags = ColorTags(primaries=1, transfer=1, matrix=matrix, range=2 if full else 1)
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    source = encode(
        tmp_path / "in.mkv", [frame], ticks=[0], time_base=Fraction(1, 30), codec="ffv1", tags=tags
    )
    assert tags == probe(source).color
    (read,) = read_frames(source)
    assert np.abs(patch_centers(read.image) - patch_centers(make_color_patches())).max() <= 2


@pytest.mark.parametrize("color_range", [1, 2, None])
@pytest.mark.parametrize("matrix", [1, 6, 9, None])
def test_unchanged_colors_come_back(
    matrix: int | None, color_range: int | None, tmp_path: Path
) -> None:
    """Written and read again, a color is within 2 levels of itself, and the tags are preserved."""
    tags = ColorTags(primaries=1, transfer=1, matrix=matrix, range=color_range)
    path = tmp_path / "out.mp4"
    with VideoWriter(path, size=(192, 64), rate=Fraction(30), color=tags, quality=0) as video:
        video.write(make_color_patches(), Fraction(0))
    (read,) = read_frames(path)
    error = patch_centers(read.image) - patch_centers(make_color_patches())
    assert np.abs(error).max() <= 2
    assert abs(error.mean()) <= 0.5
    assert tags.with_defaults((192, 64)).matrix == probe(path).color.with_defaults((192, 64)).matrix
    assert (matrix, color_range or 1) == (probe(path).color.matrix, probe(path).color.range or 1)


def test_an_untagged_file_is_bt709_from_high_definition_on() -> None:
    """The rule for files without tags, the same for landscape and portrait."""
    untagged = ColorTags()
    assert 6 == untagged.with_defaults((720, 576)).matrix
    assert (
        1
        == untagged.with_defaults((1280, 720)).matrix
        == untagged.with_defaults((720, 1280)).matrix
    )
    assert 1 == untagged.with_defaults((1280, 720)).range


# --- audio, subtitles, metadata ---------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_audio_is_copied_packet_by_packet(suffix: str, tmp_path: Path) -> None:
    """Both streams come out with the same bytes, times and languages."""
    source = write_clip(tmp_path / "in.mp4", audio_streams=2)
    target = tmp_path / f"out{suffix}"
    rewrite(source, target)
    assert 2 == probe(target).audio_count
    assert read_packets(source, "audio") == read_packets(target, "audio")
    with av.open(str(target)) as container:
        assert ["eng", "jpn"] == [stream.language for stream in container.streams.audio]


def test_audio_longer_than_the_video_is_whole(tmp_path: Path) -> None:
    """Half a second of video keeps its three seconds of audio."""
    source = tmp_path / "in.mp4"
    encode(
        source,
        make_moving_frames(15),
        ticks=range(15),
        time_base=Fraction(1, 30),
        audio_streams=1,
        audio_seconds=3,
    )
    rewrite(source, tmp_path / "out.mp4")
    assert read_packets(source, "audio") == read_packets(tmp_path / "out.mp4", "audio")
    assert Fraction(1, 2) == probe(tmp_path / "out.mp4").duration


def test_audio_that_does_not_fit_is_encoded_again_with_a_note(tmp_path: Path) -> None:
    """Opus cannot be in a .mov: it becomes AAC of the same length, and a note says so."""
    source = tmp_path / "in.mkv"
    tone = 0.5 * np.sin(np.arange(48_000) * 0.05).astype(np.float32)
    with av.open(str(source), "w") as output:
        stream = output.add_stream("libx264", rate=30, width=WIDTH, height=HEIGHT)
        audio = output.add_stream("libopus", rate=48_000)
        for frame in make_moving_frames(30):
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        samples = AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
        samples.sample_rate, samples.pts = 48_000, 0
        output.mux(audio.encode(samples))
        output.mux(audio.encode(None))
    video = rewrite(source, tmp_path / "out.mov")
    assert ["audio 1 (opus) is encoded again as AAC: .mov cannot hold it"] == video.notes
    with av.open(str(tmp_path / "out.mov")) as container:
        decoded = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1)
    assert 48_000 == pytest.approx(decoded.shape[1], abs=1_024)
    assert 0.5 == pytest.approx(np.abs(decoded[:, 2_000:46_000]).max(), abs=0.05)
    assert [] == rewrite(source, tmp_path / "out.mkv").notes


def write_subtitled_clip(path: Path) -> Path:
    """Write a clip with a line of text from 0.2 s to 0.6 s."""
    bare = write_clip(path.with_name("bare in.mp4"), audio_streams=1)
    text = path.with_name("text in.srt")
    text.write_text("1\n00:00:00,200 --> 00:00:00,600\nhello\n", encoding="utf-8")
    with (
        av.open(str(bare)) as video,
        av.open(str(text)) as words,
        av.open(str(path), "w") as output,
    ):
        for source in (video, words):
            for stream in source.streams:
                output.add_stream_from_template(stream)
        copies = list(output.streams)
        for first, source in ((0, video), (len(video.streams), words)):
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = copies[first + packet.stream_index]
                    output.mux(packet)
    return path


def test_subtitles_are_copied_or_converted_with_a_note(tmp_path: Path) -> None:
    """An .mkv holds them as they are; an .mp4 holds the same text in another codec."""
    source = write_subtitled_clip(tmp_path / "in.mkv")
    ((time, text),) = read_packets(source, "subtitle")[0]
    assert b"hello" == text
    copied = rewrite(source, tmp_path / "out.mkv")
    assert read_packets(source, "subtitle") == read_packets(tmp_path / "out.mkv", "subtitle")
    assert [] == copied.notes
    converted = rewrite(source, tmp_path / "out.mp4")
    expected = "subtitle 2 (srt) is converted to mov_text: .mp4 cannot hold it"
    assert [expected] == converted.notes
    words = [
        packet for packet in read_packets(tmp_path / "out.mp4", "subtitle")[0] if packet[1][2:]
    ]
    assert [(time, b"\x00\x05hello")] == words
    back = rewrite(tmp_path / "out.mp4", tmp_path / "back.mkv")
    expected = "subtitle 2 (mov_text) is converted to subrip: .mkv cannot hold it"
    assert [expected] == back.notes
    words = [packet for packet in read_packets(tmp_path / "back.mkv", "subtitle")[0] if packet[1]]
    assert [(time, b"hello")] == words
    assert (
        read_packets(source, "audio")[0][3][1]
        == read_packets(tmp_path / "out.mp4", "audio")[0][3][1]
    )


def test_metadata_and_chapters_are_copied(tmp_path: Path) -> None:
    """The file's title and its chapters are in the output too."""
    bare = write_clip(tmp_path / "bare.mp4", audio_streams=1)
    source = tmp_path / "in.mp4"
    chapters = [
        {
            "id": index,
            "start": 500 * index,
            "end": 500 * index + 500,
            "time_base": Fraction(1, 1000),
            "metadata": {"title": title},
        }
        for index, title in enumerate(["one", "two"])
    ]
    with av.open(str(bare)) as old, av.open(str(source), "w") as new:
        copies = [new.add_stream_from_template(stream) for stream in old.streams]
        new.metadata["title"] = "a title"
        new.set_chapters(chapters)
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                new.mux(packet)
    rewrite(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert "a title" == container.metadata["title"]
        assert ["one", "two"] == [c["metadata"]["title"] for c in container.chapters()]


@pytest.mark.skipif(
    not hasattr(os, "sched_getscheduler") or os.geteuid() != 0,
    reason="only root's threads may become real-time",
)
def test_no_encoder_makes_the_program_real_time(tmp_path: Path) -> None:
    """SVT-AV1 does, and would keep the processors from everything else on the machine."""

    def policies() -> set[int]:
        return {os.sched_getscheduler(int(one.name)) for one in Path("/proc/self/task").iterdir()}

    with VideoWriter(tmp_path / "a.mp4", size=(64, 64), rate=Fraction(25), codec="av1") as writer:
        for index in range(3):
            writer.write(np.full((64, 64, 3), 90, np.uint8), Fraction(index, 25))
            assert {os.SCHED_OTHER} == policies()
    assert {os.SCHED_OTHER} == policies()


def test_an_audio_track_is_encoded(tmp_path: Path) -> None:
    """A tone is written with a synthetic clip, and is at the same time in the file."""
    path = tmp_path / "synthetic.mp4"
    time = np.arange(44_100) / 44_100
    tone = (0.5 * np.sin(2 * np.pi * 440 * time) * (time > 0.5)).astype(np.float32)
    track = AudioTrack(samples=tone[:, None], rate_hz=44_100)
    with VideoWriter(path, size=(WIDTH, HEIGHT), rate=Fraction(30), audio=track) as video:
        for index in range(30):
            video.write(make_corners(), Fraction(index, 30))
    assert [Fraction(index, 30) for index in range(30)] == read_times(path)
    with av.open(str(path)) as container:
        decoded = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1)[0]
    assert 44_100 == pytest.approx(len(decoded), abs=1_024)
    assert np.abs(decoded[:21_000]).max() < 0.02
    assert 0.5 == pytest.approx(np.abs(decoded[23_000:43_000]).max(), abs=0.05)
    crossings = np.count_nonzero(np.diff(np.signbit(decoded[23_000:43_000])))
    assert 2 * 440 * 20_000 / 44_100 == pytest.approx(crossings, abs=3)


# --- what cannot be read -----------------------------------------------------------------------


def test_a_missing_file_suggests_a_similar_name(tmp_path: Path) -> None:
    """A typing error is answered with the name that was meant."""
    write_clip(tmp_path / "holiday.mp4", count=2)
    with pytest.raises(InputError, match=r"there is no file .*holyday\.mp4") as caught:
        probe(tmp_path / "holyday.mp4")
    assert 'did you mean "holiday.mp4"?' == caught.value.hint


def make_folder(path: Path) -> None:
    """Put a folder where a video should be."""
    path.mkdir()


def make_empty(path: Path) -> None:
    """Put an empty file there."""
    path.touch()


def make_text(path: Path) -> None:
    """Put a text there, with a letter cut in two at the end of the bytes that are read."""
    path.write_text("a" * 4095 + "ü" + "to be or not to be\n" * 50, encoding="utf-8")


def make_noise(path: Path) -> None:
    """Put random bytes there."""
    path.write_bytes(np.random.default_rng(1).bytes(5_000))


def make_headless(path: Path) -> None:
    """Put an mp4 there whose index was never written."""
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=30, width=WIDTH, height=HEIGHT)
        for frame in make_moving_frames(30):
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])


def make_audio_only(path: Path) -> None:
    """Put audio without video there."""
    with av.open(str(path), "w", format="mp4") as output:
        audio = output.add_stream("aac", rate=44_100)
        samples = AudioFrame.from_ndarray(
            np.zeros((2, 4_096), np.float32), format="fltp", layout="stereo"
        )
        samples.sample_rate, samples.pts = 44_100, 0
        output.mux(audio.encode(samples))
        output.mux(audio.encode(None))


def make_playlist(path: Path) -> None:
    """Put a list there that makes FFmpeg open another file."""
    write_clip(path.with_name("other.mp4"), count=2)
    path.write_text("ffconcat version 1.0\nfile other.mp4\n")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (make_folder, "is a folder, not a video"),
        (make_empty, r"is empty \(0 bytes\)"),
        (make_text, "is not a video that can be read: it is a text file"),
        (make_noise, "is not a video that can be read: its format is unknown"),
        (make_headless, "is not a video that can be read: its index is missing"),
        (make_audio_only, "holds audio but no video"),
        (make_playlist, "is not a video that can be read: it is a text file"),
    ],
)
def test_other_files_are_refused_in_one_line(
    make: Callable[[Path], None], text: str, tmp_path: Path
) -> None:
    """One clear line and a hint for everything that only has a video's name."""
    path = tmp_path / "clip.mp4"
    make(path)
    with pytest.raises(InputError, match=text) as caught:
        probe(path)
    assert caught.value.message.startswith(f"{path} ")
    assert "\n" not in caught.value.message + caught.value.hint
    assert caught.value.hint


def test_damage_in_the_middle_is_skipped_with_a_note(tmp_path: Path) -> None:
    """Frames after an unreadable part are still read, at their own times."""
    source = write_clip(tmp_path / "in.mp4", count=40)
    whole = read_times(source)
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        middle = [packet for packet in container.demux(video=0) if packet.size][15]
        assert middle.pos is not None
        data[middle.pos : middle.pos + middle.size] = b"\xff" * middle.size
    source.write_bytes(data)
    with VideoReader(source) as reader:
        part = [frame.time for frame in reader.frames()]
    assert set(part) < set(whole)
    assert whole[-1] == part[-1]
    assert "in.mp4 holds 1 damaged part left out" == reader.truncation_note


DAMAGED = [
    (".mkv", "libx264"),
    (".webm", "libvpx"),
    (".flv", "libx264"),
    (".ts", "libx264"),
    (".mpg", "mpeg2video"),
    (".mp4", "libx264"),
]


@pytest.mark.parametrize(("suffix", "codec"), DAMAGED)
def test_the_seconds_that_damage_has_cost_are_said(suffix: str, codec: str, tmp_path: Path) -> None:
    """Bytes overwritten in the middle: the note and the reports say which frames are lost.

    A Matroska file lost a tenth of its frames without a word.
    """
    frames = [
        VideoFrame.from_ndarray(image).reformat(format="yuv420p")
        for image in np.random.default_rng(0).integers(0, 255, (90, HEIGHT, WIDTH, 3), np.uint8)
    ]
    source = tmp_path / f"in{suffix}"
    options = {"g": "10"} | ({"auto-alt-ref": "1"} if codec == "libvpx" else {})
    with av.open(str(source), "w") as output:
        stream = output.add_stream(codec, rate=25, width=WIDTH, height=HEIGHT, options=options)
        stream.pix_fmt = "yuv420p"
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    notes: list[str] = []
    whole = [frame.time for frame in VideoSource.open(source).frames(note=notes.append)]
    assert (90, []) == (len(whole), notes)

    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 6_000] = b"\xff" * 6_000
    source.write_bytes(data)
    video = VideoSource.open(source)
    part = [frame.time for frame in video.frames(note=notes.append)]
    lost = set(whole) - set(part)
    assert 0 < len(lost) < 60
    (note,) = [text for text in notes if "is damaged" in text]
    found: list[MissingSpan] = []
    assert part == [frame.time for frame in video.frames(note=print, missing=found.append)]
    assert len(lost) == pytest.approx(sum(span.frames for span in found), abs=1)
    assert all(any(span.start - 1 < time < span.end for span in found) for time in lost)
    for span in found:
        assert f"{float(span.start - whole[0]):.2f}-{float(span.end - whole[0]):.2f} s" in note
    start, end = found[0].start, found[0].end
    found.clear()
    wanted = TimeRange(start=start - whole[0] - 1, end=(start + end) / 2 - whole[0])
    assert list(video.frames(note=print, time_range=wanted, missing=found.append))
    assert [(start, (start + end) / 2)] == [(span.start, span.end) for span in found]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts", ".flv"])
def test_gaps_between_frames_of_a_sound_file_are_no_damage(suffix: str, tmp_path: Path) -> None:
    """Screen recordings leave frames out where nothing moves."""
    source = tmp_path / f"in{suffix}"
    with av.open(str(source), "w") as output:
        stream = output.add_stream("libx264", rate=30, width=WIDTH, height=HEIGHT)
        stream.codec_context.time_base = Fraction(1, 30)
        for index, frame in zip([*range(40), *range(60, 100)], make_moving_frames(80), strict=True):
            frame.pts, frame.time_base = index, Fraction(1, 30)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    notes: list[str] = []
    assert 80 == len(list(VideoSource.open(source).frames(note=notes.append)))
    assert [] == notes


def test_a_first_frame_that_is_lost_is_said(tmp_path: Path) -> None:
    """Without its key frame nothing of the first group of pictures can be decoded."""
    source = tmp_path / "in.mp4"
    encode(
        source,
        make_moving_frames(40),
        ticks=range(40),
        time_base=Fraction(1, 30),
        options={"g": "10", "bf": "0"},
    )
    with av.open(str(source)) as container:
        first = next(packet for packet in container.demux(video=0) if packet.size)
    assert first.pos is not None
    data = bytearray(source.read_bytes())
    data[first.pos : first.pos + first.size] = b"\xff" * first.size
    source.write_bytes(data)
    notes: list[str] = []
    count = len(list(VideoSource.open(source).frames(note=notes.append)))
    assert count < 40
    lost = 40 - count
    assert any(f"({lost} frames) are missing, at -{lost / 30:.2f}-0.00 s" in one for one in notes)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_truncated_file_is_read_as_far_as_possible_with_a_note(
    suffix: str, tmp_path: Path
) -> None:
    """The frames that decode are read; what is missing is said in one line."""
    noise = np.random.default_rng(0).integers(0, 255, (60, HEIGHT, WIDTH, 3)).astype(np.uint8)
    frames = [VideoFrame.from_ndarray(image).reformat(format="yuv420p") for image in noise]
    options = {"g": "10"}
    source = encode(
        tmp_path / f"in{suffix}",
        frames,
        ticks=range(60),
        time_base=Fraction(1, 30),
        options=options,
    )
    whole = read_times(source)
    data = source.read_bytes()
    source.write_bytes(data[: len(data) * 6 // 10])
    notes: list[str] = []
    part = [frame.time for frame in VideoSource.open(source).frames(note=notes.append)]
    assert 20 < len(part) < 45
    assert whole[: len(part)] == part
    assert 1 == len(notes)
    assert notes[0].startswith(f"in{suffix} ends after 1.")
    assert "of 2.0 s" in notes[0]


def test_the_last_hundredth_of_a_long_file_is_missed(tmp_path: Path) -> None:
    """A Matroska file of two minutes whose last 1.2 s were cut off; it was taken for whole."""
    source = tmp_path / "in.mkv"
    black = VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8)).reformat(format="yuv420p")
    with av.open(str(source), "w") as output:
        stream = output.add_stream("mpeg4", rate=5, width=16, height=16)
        for index in range(601):
            black.pts, black.time_base = index, Fraction(1, 5)
            output.mux(stream.encode(black))
        output.mux(stream.encode(None))
    with av.open(str(source)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][-6]
    assert packet.pos is not None
    source.write_bytes(source.read_bytes()[: packet.pos])
    notes: list[str] = []
    assert 595 == len(list(VideoSource.open(source).frames(note=notes.append)))
    assert ["in.mkv ends after 119.0 s of 120.2 s"] == notes


def test_a_whole_file_misses_nothing(tmp_path: Path) -> None:
    """No false alarm, not even where the audio is longer than the video."""
    for suffix in (".mp4", ".mkv", ".mov"):
        with VideoReader(write_clip(tmp_path / f"in{suffix}", count=10, audio_streams=1)) as reader:
            assert 10 == len(list(reader.frames()))
            assert reader.truncation_note is None


def test_a_long_last_frame_is_not_taken_for_missing_ones(tmp_path: Path) -> None:
    """A recording that ends on a still of two seconds is whole."""
    frames = make_moving_frames(10)
    frames[-1].duration = 60
    options = {"bf": "0"}
    source = tmp_path / "in.mp4"
    encode(source, frames, ticks=range(10), time_base=Fraction(1, 30), options=options)
    assert Fraction(69, 30) == probe(source).duration
    with VideoReader(source) as reader:
        assert 10 == len(list(reader.frames()))
        assert reader.truncation_note is None


# --- what cannot be written --------------------------------------------------------------------


@pytest.fixture
def old_output(tmp_path: Path) -> Iterator[Path]:
    """An older result that no failure may touch."""
    path = tmp_path / "out.mp4"
    path.write_bytes(b"an older output")
    yield path
    assert b"an older output" == path.read_bytes()
    assert [path.name] == [entry.name for entry in tmp_path.iterdir() if "in" not in entry.name]


def test_an_exception_leaves_nothing_behind(old_output: Path, tmp_path: Path) -> None:
    """Stopped halfway, the folder is as it was, the older output included."""
    source = write_clip(tmp_path / "in.mp4", audio_streams=1)
    with (
        pytest.raises(KeyboardInterrupt),
        VideoWriter(old_output, size=(WIDTH, HEIGHT), rate=Fraction(30), copy_from=source) as video,
    ):
        for frame in read_frames(source):
            video.write(frame.image, frame.time)
            if frame.index == 20:
                raise KeyboardInterrupt


def test_a_full_disk_is_one_clear_line(old_output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's "no space left" becomes an `InputError` that names the output."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(segment_file.SegmentWriter, "write", fail)
    with (
        pytest.raises(InputError, match=r"no space left on the disk while writing .*out\.mp4"),
        VideoWriter(old_output, size=(WIDTH, HEIGHT), rate=Fraction(30)) as video,
    ):
        video.write(make_corners(), Fraction(0))


def test_a_video_of_no_frames_is_refused(old_output: Path) -> None:
    """An empty video is never left as a finished one."""
    with (
        pytest.raises(InputError, match=r"not one frame to write to .*out\.mp4"),
        VideoWriter(old_output, size=(WIDTH, HEIGHT), rate=Fraction(30)),
    ):
        pass


def test_an_unknown_extension_is_refused(tmp_path: Path) -> None:
    """The extensions that can be written are listed."""
    with pytest.raises(InputError, match=r"cannot write a video named out\.xyz") as caught:
        VideoWriter(tmp_path / "out.xyz", size=(WIDTH, HEIGHT), rate=Fraction(30)).__enter__()
    assert "give it one of these extensions: .mp4, .m4v, .mov, .mkv, .webm" == caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_folder_cannot_be_written_over(tmp_path: Path) -> None:
    """It is refused before any work, not after it."""
    (tmp_path / "video.mp4").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        VideoWriter(tmp_path / "video.mp4", size=(WIDTH, HEIGHT), rate=Fraction(30)).__enter__()


def test_a_file_in_place_of_a_folder_is_one_clear_line(tmp_path: Path) -> None:
    """The folder of the output is a file: no traceback."""
    (tmp_path / "videos").write_text("not a folder")
    with pytest.raises(InputError, match="a part of that path is a file, not a folder"):
        VideoWriter(
            tmp_path / "videos" / "out.mp4", size=(WIDTH, HEIGHT), rate=Fraction(30)
        ).__enter__()


def test_the_source_is_never_written_over(tmp_path: Path) -> None:
    """Output and input are the same file, through a link even: refused, and the file is whole."""
    source = write_clip(tmp_path / "in.mp4", count=3)
    before = source.read_bytes()
    link = tmp_path / "link.mp4"
    link.hardlink_to(source)
    with pytest.raises(InputError, match="is the source; it would be lost"):
        VideoWriter(link, size=(WIDTH, HEIGHT), rate=Fraction(30), copy_from=source).__enter__()
    assert before == source.read_bytes()


def test_paths_may_hold_anything(tmp_path: Path) -> None:
    """Spaces, other scripts, an emoji, a percent sign and a colon in the names."""
    folder = tmp_path / "meine Filme & 映画 🎬"
    folder.mkdir()
    source = write_clip(folder / "concat:löwe %d.mp4", count=4, audio_streams=1)
    rewrite(source, folder / "Ergebnis für Zoë.mp4")
    assert read_times(source) == read_times(folder / "Ergebnis für Zoë.mp4")
    assert read_packets(source, "audio") == read_packets(folder / "Ergebnis für Zoë.mp4", "audio")
