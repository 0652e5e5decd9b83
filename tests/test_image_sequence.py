"""An image sequence is written with the same images, except for what was changed in them."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.lazy_image import Rect
from faceswap_cli.core.types import AnyArray, Image
from faceswap_cli.video.frame import FramePosition
from faceswap_cli.video.image_sequence import ImageSequenceWriter
from faceswap_cli.video.resumable import ResumableOutput, open_output
from faceswap_cli.video.segments import SegmentedWriter
from faceswap_cli.video.source import (
    IMAGE_SEQUENCE_FPS,
    ImageSequence,
    VideoSource,
    find_sources,
)
from faceswap_cli.video.writer import VideoWriter, check_output

AREA = Rect(4, 6, 20, 18)


def noise(seed: int = 0, channels: int = 3) -> AnyArray:
    """Return an image of 40 by 30 px."""
    return np.random.default_rng(seed).integers(0, 256, (30, 40, channels)).astype(np.uint8)


def make_sequence(folder: Path, *names: str) -> ImageSequence:
    """Write images of noise and return them as a sequence."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        Pillow.fromarray(noise(number)).save(folder / name, quality=90)
    (source,) = find_sources([folder])
    assert isinstance(source, ImageSequence)
    return source


def write_blacked_out(
    source: ImageSequence, work: Path, *, key: str = "", stop: int | None = None
) -> ImageSequenceWriter:
    """Write an area of every image black, except in the first."""
    writer = ImageSequenceWriter(work, source, key=key)
    with writer:
        done = writer.frames_done
        last = FramePosition(index=done - 1, time=(done - 1) / IMAGE_SEQUENCE_FPS) if done else None
        for frame in source.frames(note=lambda _: None, resume_after=last):
            if frame.index == stop:
                raise KeyboardInterrupt
            black = np.zeros_like(frame.image)
            areas = [AREA] if frame.index else []
            writer.write(black, frame.time, original=frame.original, changed=areas)
    return writer


def test_names_and_unchanged_pixels_are_those_of_the_source(tmp_path: Path) -> None:
    """A folder of images becomes one with the same names; an unchanged image is the same file."""
    source = make_sequence(tmp_path / "in", "a.jpg", "b.png", "c.bmp", "d.webp")
    write_blacked_out(source, tmp_path / "work").finalize(tmp_path / "out")
    names = ["a.jpg", "b.png", "c.bmp", "d.webp"]
    assert names == sorted(path.name for path in (tmp_path / "out").iterdir())
    unchanged = tmp_path / "out" / "a.jpg"
    assert (tmp_path / "in" / "a.jpg").read_bytes() == unchanged.read_bytes()
    for name in ("b.png", "c.bmp"):
        before, after = (image_io.read_image(tmp_path / side / name) for side in ("in", "out"))
        left, top, right, bottom = AREA
        assert 0 == after[top:bottom, left:right].max()
        after[top:bottom, left:right] = before[top:bottom, left:right]
        np.testing.assert_array_equal(before, after)


def test_transparency_and_sixteen_bits_are_preserved(tmp_path: Path) -> None:
    """Outside of the changed area nothing is rounded to eight bits, and alpha stays everywhere."""
    (tmp_path / "in").mkdir()
    image_io.write_png(tmp_path / "in" / "a.png", noise())
    Pillow.fromarray(noise(1, 4)).save(tmp_path / "in" / "b.png")
    deep = np.random.default_rng(2).integers(0, 65_536, (30, 40, 3)).astype(np.uint16)
    (tmp_path / "in" / "c.png").write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    (source,) = find_sources([tmp_path / "in"])
    assert isinstance(source, ImageSequence)
    write_blacked_out(source, tmp_path / "work").finalize(tmp_path / "out")
    clear = np.asarray(Pillow.open(tmp_path / "out" / "b.png"))
    np.testing.assert_array_equal(noise(1, 4)[..., 3], clear[..., 3])
    data = np.fromfile(tmp_path / "out" / "c.png", np.uint8)
    after = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    assert after is not None
    left, top, right, bottom = AREA
    assert 0 == after[top:bottom, left:right].max()
    deep[top:bottom, left:right] = 0
    np.testing.assert_array_equal(deep, after)


def test_a_rotated_image_is_written_upright_with_its_metadata(tmp_path: Path) -> None:
    """A phone's JPEG is rotated once, not twice, and keeps its vendor and its profile."""
    (tmp_path / "in").mkdir()
    exif = Pillow.Exif()
    exif[0x0112], exif[0x010F] = 6, "a vendor"
    smooth = np.zeros((30, 40, 3), np.uint8)
    smooth[:, :20] = 200
    Pillow.fromarray(smooth).save(tmp_path / "in" / "a.jpg", exif=exif, icc_profile=b"profile")
    (source,) = find_sources([tmp_path / "in"])
    assert isinstance(source, ImageSequence)
    writer = ImageSequenceWriter(tmp_path / "work", source, key="")
    (frame,) = source.frames(note=lambda _: None)
    assert (40, 30, 3) == frame.image.shape
    writer.write(frame.image, frame.time, original=frame.original, changed=[Rect(0, 0, 4, 4)])
    writer.finalize(tmp_path / "out.jpg")
    with Pillow.open(tmp_path / "out.jpg") as made:
        assert (30, 40) == made.size
        assert ("a vendor", 1) == (made.getexif()[0x010F], made.getexif().get(0x0112, 1))
        assert b"profile" == made.info["icc_profile"]
    written = image_io.read_image(tmp_path / "out.jpg").astype(int)
    assert np.abs(written - frame.image).max() < 12


def convert_one(path: Path, output: Path) -> list[str]:
    """Write an image with `AREA` in the level 90; return the notes."""
    (source,) = find_sources([path])
    assert isinstance(source, ImageSequence)
    writer = ImageSequenceWriter(output.parent / "work", source, key="", suffix=output.suffix)
    with writer:
        (frame,) = source.frames(note=pytest.fail)
        level = np.full_like(frame.image, 90)
        writer.write(level, frame.time, original=frame.original, changed=[AREA])
    notes = writer.finalize(output)
    writer.discard()
    return notes


def gray_profile() -> bytes:
    """Return what an ICC profile of gray images begins with."""
    return bytes(16) + b"GRAY" + bytes(108)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_a_gray_image_stays_gray_with_its_profile(tmp_path: Path, suffix: str, deep: bool) -> None:
    """All its levels stay, 16 bits of them too. It became RGB of 8 bits with a gray profile."""
    levels = np.random.default_rng(0).integers(0, 65_536 if deep else 256, (30, 40))
    before = levels.astype(np.uint16 if deep else np.uint8)
    path, output = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    Pillow.fromarray(before).save(path, icc_profile=gray_profile())
    assert [] == convert_one(path, output)
    with Pillow.open(output) as opened:
        after = np.asarray(opened)
        if suffix != ".pgm":
            assert gray_profile() == opened.info["icc_profile"]
    before[AREA.slices] = 90 * 257 if deep else 90
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".jp2", ".bmp"])
def test_a_gray_photo_has_no_color(tmp_path: Path, suffix: str) -> None:
    """In lossy formats too; WebP has no gray, so its channels are equal and no profile is left."""
    path, output = tmp_path / "in.png", tmp_path / f"out{suffix}"
    Pillow.fromarray(noise()[..., 0]).save(path, icc_profile=gray_profile())
    convert_one(path, output)
    with Pillow.open(output) as opened:
        assert ("RGB" if suffix == ".webp" else "L") == opened.mode
        assert suffix != ".webp" or "icc_profile" not in opened.info
    assert np.ptp(image_io.read_image(output).astype(int), axis=2).max() <= 2


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_gray_with_transparency_keeps_both(tmp_path: Path, suffix: str) -> None:
    """Transparency was dropped from a TIFF."""
    before = noise(1, 2)
    Pillow.fromarray(before).save(tmp_path / f"in{suffix}")
    convert_one(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}")
    before[..., 0][AREA.slices] = 90
    with Pillow.open(tmp_path / f"out{suffix}") as opened:
        np.testing.assert_array_equal(before, np.asarray(opened))


def test_a_print_becomes_rgb_without_its_profile(tmp_path: Path) -> None:
    """Printing inks are not kept, which is said; their profile was left in a file of RGB."""
    profile = bytes(16) + b"CMYK" + bytes(108)
    Pillow.fromarray(noise(2, 4), mode="CMYK").save(tmp_path / "in.tif", icc_profile=profile)
    notes = convert_one(tmp_path / "in.tif", tmp_path / "out.tif")
    assert ["printing inks (CMYK) became RGB, in 1 image"] == notes
    with Pillow.open(tmp_path / "out.tif") as opened:
        assert ("RGB", None) == (opened.mode, opened.info.get("icc_profile"))


def test_sixteen_bits_in_color_keep_profile_and_levels(tmp_path: Path) -> None:
    """The profile was lost, and a format without 16 bits came out white."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    deep = np.random.default_rng(2).integers(0, 65_536, (30, 40, 3)).astype(np.uint16)
    kinds = [cv2.IMAGE_METADATA_ICCP]
    data = cv2.imencodeWithMetadata(".png", deep, kinds, [np.frombuffer(profile, np.uint8)])[1]
    (tmp_path / "in.png").write_bytes(data.tobytes())
    assert [] == convert_one(tmp_path / "in.png", tmp_path / "out.png")
    with Pillow.open(tmp_path / "out.png") as opened:
        assert profile == opened.info["icc_profile"]
    convert_one(tmp_path / "in.png", tmp_path / "out.bmp")
    before, after = (
        image_io.read_image(tmp_path / name).astype(int) for name in ("in.png", "out.bmp")
    )
    before[AREA.slices] = 90
    np.testing.assert_allclose(before, after, atol=1)


@pytest.mark.parametrize("suffix", [".png", ".avif"])
def test_a_rotated_image_keeps_what_is_not_changed(tmp_path: Path, suffix: str) -> None:
    """Turned upright, its transparency stays; an AVIF is no longer on its side."""
    exif = Pillow.Exif()
    exif[0x0112] = 6
    clear = np.full((30, 40, 4), 140, np.uint8)
    clear[:10, :10, 3] = 0
    path, output = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    Pillow.fromarray(clear).save(path, exif=exif, quality=100)
    convert_one(path, output)
    with Pillow.open(output) as opened:
        assert ((30, 40), 1) == (opened.size, opened.getexif().get(0x0112, 1))
        alpha = np.asarray(opened.convert("RGBA"))[..., 3]
    np.testing.assert_allclose(alpha, np.rot90(clear[..., 3], -1), atol=9)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_damaged_exif_data_is_left_out(tmp_path: Path, suffix: str) -> None:
    """The image is written, with its profile, and the loss is said; it ended in a traceback."""
    exif = Pillow.Exif()
    exif[0x010F] = "a vendor"
    path, output = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    Pillow.fromarray(noise()).save(path, exif=exif, icc_profile=b"profile")
    path.write_bytes(path.read_bytes().replace(b"MM\0*", b"MM\0\xdb"))
    assert ["damaged EXIF data left out, in 1 image"] == convert_one(path, output)
    with Pillow.open(output) as opened:
        assert (b"profile", {}) == (opened.info["icc_profile"], dict(opened.getexif()))


def test_a_stopped_writer_is_resumed(tmp_path: Path) -> None:
    """Finished images remain; other settings start over; nothing is in place before the end."""
    source = make_sequence(tmp_path / "in", *(f"{number}.png" for number in range(5)))
    (tmp_path / "in" / "1.png").write_bytes(b"not an image")
    with pytest.raises(KeyboardInterrupt):
        write_blacked_out(source, tmp_path / "work", stop=3)
    assert 3 == ImageSequenceWriter(tmp_path / "work", source, key="").frames_done
    assert not (tmp_path / "out").exists()
    write_blacked_out(source, tmp_path / "work").finalize(tmp_path / "out")
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert ["0.png", "2.png", "3.png", "4.png"] == found
    assert 0 == ImageSequenceWriter(tmp_path / "work", source, key="other").frames_done


def test_the_source_is_never_written_over(tmp_path: Path) -> None:
    """If output and input are one folder, it is refused, and the images are whole."""
    source = make_sequence(tmp_path / "in", "a.png", "b.png")
    before = (tmp_path / "in" / "b.png").read_bytes()
    writer = write_blacked_out(source, tmp_path / "work")
    with pytest.raises(InputError, match="is the folder of the source's images"):
        writer.finalize(tmp_path / "in")
    assert before == (tmp_path / "in" / "b.png").read_bytes()


def test_another_file_format_may_be_requested(tmp_path: Path) -> None:
    """A JPEG becomes a PNG; an extension that is not that of an image is refused."""
    source = make_sequence(tmp_path / "in", "a.jpg")
    writer = ImageSequenceWriter(tmp_path / "work", source, key="", suffix=".png")
    for frame in source.frames(note=lambda _: None):
        writer.write(frame.image, frame.time, original=frame.original)
    writer.finalize(tmp_path / "out.png")
    expected: Image = image_io.read_image(tmp_path / "in" / "a.jpg")
    np.testing.assert_array_equal(expected, image_io.read_image(tmp_path / "out.png"))
    with pytest.raises(InputError, match=r"cannot write an image that ends in \.mp4"):
        ImageSequenceWriter(tmp_path / "work", source, key="", suffix=".mp4")


def test_the_kind_of_source_decides_what_is_written(tmp_path: Path) -> None:
    """A video becomes a video, one image an image, several a folder; all else is refused."""
    source = make_sequence(tmp_path / "in", "a.png", "b.png")
    single = make_sequence(tmp_path / "one", "a.png")
    path = tmp_path / "video.mp4"
    with VideoWriter(path, size=(40, 30), rate=Fraction(25)) as writer:
        writer.write(noise(), Fraction(0))
    (video,) = find_sources([path])
    assert isinstance(video, VideoSource)

    def open_for(opened: VideoSource | ImageSequence, name: str) -> ResumableOutput:
        output = tmp_path / name
        check_output(opened, output, codec=None)
        return open_output(opened, output, folder=tmp_path / "work", key="")

    assert isinstance(open_for(video, "out.mkv"), SegmentedWriter)
    assert isinstance(open_for(source, "out"), ImageSequenceWriter)
    assert isinstance(open_for(single, "out.jpg"), ImageSequenceWriter)
    for opened, name, text in (
        (source, "out.png", r"2 images do not fit into out\.png"),
        (single, "out.mp4", r"cannot write an image that ends in \.mp4"),
        (single, "one/a.png", "it would be lost"),
        (video, "video.mp4", "it would be lost"),
        (video, "out.png", r"cannot write a video named out\.png"),
    ):
        with pytest.raises(InputError, match=text):
            open_for(opened, name)
