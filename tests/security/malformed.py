"""A hundred malformed files, made from small good ones: `write_malformed`."""

import random
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from PIL import Image as Pillow
from security import bombs

from faceswap_cli.core.types import Image

UNREADABLE = frozenset({3})
ANY = frozenset({0, 3, 4})
"""Exit codes of an input that may still have frames: done, unreadable, no face found."""
SIDE_PX = 48
FRAMES = 10


@dataclass(frozen=True, kw_only=True)
class Malformed:
    """One malformed input."""

    name: str
    """What it is; its file is named so."""
    data: bytes
    codes: frozenset[int] = ANY
    """The exit codes of `extract` that are right."""


def make_malformed(folder: Path) -> Iterator[Malformed]:
    """Yield the malformed inputs; good ones are written to `folder` first."""
    good = {path.suffix: path.read_bytes() for path in write_good(folder)}
    yield from _truncate(good)
    yield from _flip_bits(good)
    yield from _fill(good)
    yield from _rename(good)
    yield from _claim_sizes(good[".jpg"])
    yield from _break_mp4(good[".mp4"])
    yield _claim_duration(good[".mkv"])
    yield from _strange_clips(folder)


def write_good(folder: Path) -> list[Path]:
    """Write a small file of each kind; return their paths."""
    images = [make_image(number) for number in range(FRAMES)]
    paths = [
        write_video(folder / "good.mp4", images),
        write_video(folder / "good.mkv", images),
        write_video(folder / "good.webm", images, codec="libvpx-vp9"),
    ]
    for suffix in (".png", ".jpg", ".avif"):
        paths.append(folder / f"good{suffix}")
        Pillow.fromarray(images[0]).save(paths[-1])
    return paths


def make_image(number: int) -> Image:
    """Return a smooth image with some noise."""
    rng = np.random.default_rng(number)
    slope = np.add.outer(np.arange(SIDE_PX), np.arange(SIDE_PX))[..., None] * 2
    return (slope + rng.integers(0, 20, (SIDE_PX, SIDE_PX, 3)) + number).astype(np.uint8)


def write_video(
    path: Path,
    images: list[Image],
    *,
    codec: str = "libx264",
    pts: Callable[[int], int] = lambda index: index,
    time_base: Fraction = Fraction(1, 25),
) -> Path:
    """Write a video with any time stamps; return its path."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p" if stream.width > 1 else "yuv444p"
        stream.codec_context.time_base = time_base
        for index, image in enumerate(images):
            frame = VideoFrame.from_ndarray(image)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            for packet in stream.encode(frame):
                packet.pts = packet.dts = pts(index)
                output.mux(packet)
        output.mux(stream.encode(None))
    return path


def _truncate(good: Mapping[str, bytes]) -> Iterator[Malformed]:
    """Yield files that end too early."""
    for suffix, data in good.items():
        for percent in (1, 20, 50, 80, 98):
            part = data[: len(data) * percent // 100]
            yield Malformed(name=f"cut-{percent}{suffix}", data=part)


def _flip_bits(good: Mapping[str, bytes]) -> Iterator[Malformed]:
    """Yield files with bits that have changed: everywhere, or in the first part alone."""
    for suffix, data in good.items():
        for seed in range(5):
            rng, changed = random.Random(seed), bytearray(data)
            end = len(data) if seed % 2 else min(len(data), 400)
            for _ in range(8):
                changed[rng.randrange(4, end)] ^= 1 << rng.randrange(8)
            yield Malformed(name=f"flipped-{seed}{suffix}", data=bytes(changed))


def _fill(good: Mapping[str, bytes]) -> Iterator[Malformed]:
    """Yield files of nothing, zeros, noise and text."""
    noise = random.Random(0).randbytes(5_000)
    for suffix in good:
        yield Malformed(name=f"empty{suffix}", data=b"", codes=UNREADABLE)
        yield Malformed(name=f"zeros{suffix}", data=bytes(5_000), codes=UNREADABLE)
    for suffix in (".mp4", ".png"):
        yield Malformed(name=f"noise{suffix}", data=noise, codes=UNREADABLE)
        yield Malformed(name=f"text{suffix}", data=b"no video\n", codes=UNREADABLE)
        page = b"<!doctype html><title>404</title>"
        yield Malformed(name=f"page{suffix}", data=page, codes=UNREADABLE)


def _rename(good: Mapping[str, bytes]) -> Iterator[Malformed]:
    """Yield files with the suffix of another kind: what they are decides, or they are refused."""
    for real, claimed in (
        (".mp4", ".mkv"),
        (".mkv", ".mp4"),
        (".webm", ".avi"),
        (".mp4", ".png"),
        (".png", ".mp4"),
        (".png", ".jpg"),
        (".avif", ".png"),
        (".jpg", ".webm"),
    ):
        yield Malformed(name=f"was{real}{claimed}", data=good[real])


def _claim_sizes(jpeg: bytes) -> Iterator[Malformed]:
    """Yield images of absurd sizes."""
    wide, bomb = "claims-wide", bombs.make_png(20_000, 20_000, rows=20)
    yield Malformed(name="bomb.png", data=bomb, codes=UNREADABLE)
    for name, data in (
        (f"{wide}.bmp", bombs.make_bmp(200_000, 200_000)),
        (f"{wide}.gif", bombs.make_gif(65_535, 65_535)),
        (f"{wide}.tif", bombs.make_tiff(2**31 - 1, 2**31 - 1)),
        (f"{wide}.jpg", bombs.make_jpeg(jpeg, 65_500, 65_500)),
        (f"{wide}.png", bombs.make_png(2**31 - 1, 2**31 - 1, rows=0)),
        ("bomb.apng", bombs.make_png(12_000, 12_000, rows=20, frames=2)),
        ("no-size.jpg", bombs.make_jpeg(jpeg, 0, 0)),
        ("no-size.png", bombs.make_png(0, 0, rows=0)),
        ("no-size.bmp", bombs.make_bmp(0, 0)),
        ("negative.bmp", bombs.make_bmp(-5, -5)),
    ):
        yield Malformed(name=name, data=data, codes=UNREADABLE)


def _break_mp4(data: bytes) -> Iterator[Malformed]:
    """Yield MP4 files whose boxes are missing or say absurd things."""

    def patch(box: bytes, offset: int, value: bytes) -> bytes:
        start = data.index(box) + 4 + offset
        return data[:start] + value + data[start + len(value) :]

    largest = b"\xff" * 4
    # FFmpeg may find the H.264 stream itself in it.
    yield Malformed(name="no-moov.mp4", data=data.replace(b"moov", b"free"))
    yield Malformed(name="no-mdat.mp4", data=data[: data.index(b"mdat") + 4], codes=ANY)
    yield Malformed(name="no-ftyp.mp4", data=data[data.index(b"ftyp") + 28 :])
    for name, box, offset, value in (
        ("zero-timescale", b"mdhd", 12, bytes(4)),
        ("huge-timescale", b"mdhd", 12, largest),
        ("huge-duration", b"mdhd", 16, largest),
        ("zero-fps", b"stts", 12, bytes(4)),
        ("huge-steps", b"stts", 12, largest),
        ("many-samples", b"stts", 8, largest),
        ("many-entries", b"stsz", 8, largest),
        ("huge-sample", b"stsz", 4, largest),
        ("far-chunk", b"stco", 8, largest),
        ("many-chunks", b"stco", 4, largest),
        ("wide-track", b"tkhd", 76, struct.pack(">2I", 65_535 << 16, 65_535 << 16)),
        ("wide-codec", b"avc1", 24, struct.pack(">2H", 65_535, 65_535)),
        ("no-codec", b"avc1", -4, b"none"),
        ("long-box", b"moov", -8, largest),
        ("short-box", b"trak", -8, struct.pack(">I", 1)),
        ("self-box", b"trak", -8, bytes(4)),
        ("odd-matrix", b"tkhd", 40, random.Random(1).randbytes(36)),
    ):
        yield Malformed(name=f"{name}.mp4", data=patch(box, offset, value))


def _claim_duration(mkv: bytes) -> Malformed:
    """Return a clip of ten frames that says it takes a hundred million years."""
    start = mkv.index(b"00:00:00.", mkv.index(b"DURATION"))
    claimed = b"999999999999:59:59"
    data = mkv[:start] + claimed + mkv[start + len(claimed) :]
    return Malformed(name="endless.mkv", data=data, codes=frozenset({0}))


def _strange_clips(folder: Path) -> Iterator[Malformed]:
    """Yield clips that are valid, and rare."""
    images = [make_image(number) for number in range(FRAMES)]
    dot = [np.full((1, 1, 3), 90, np.uint8)]
    makes: Mapping[str, Callable[[Path], Path]] = {
        "one-frame.mp4": lambda path: write_video(path, images[:1]),
        "one-frame.mkv": lambda path: write_video(path, images[:1]),
        "one-pixel.mkv": lambda path: write_video(path, dot, codec="ffv1"),
        "negative-times.mkv": lambda path: write_video(path, images, pts=lambda i: i - 5),
        "repeated-times.mkv": lambda path: write_video(path, images, pts=lambda i: i // 4),
        "equal-times.mkv": lambda path: write_video(path, images, pts=lambda _: 0),
        "leaping-times.mkv": lambda path: write_video(path, images, pts=lambda i: i**7),
        "sound-only.mkv": _write_sound,
    }
    for name, make in makes.items():
        yield Malformed(name=name, data=make(folder / name).read_bytes())
    Pillow.fromarray(dot[0]).save(folder / "one-pixel.png")
    yield Malformed(name="one-pixel.png", data=(folder / "one-pixel.png").read_bytes())


def _write_sound(path: Path) -> Path:
    """Write a file with audio and no video; return its path."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8_000
        output.mux([*stream.encode(frame), *stream.encode(None)])
    return path
