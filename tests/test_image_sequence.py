"""Pictures go in and the same pictures come out, but for what was changed in them."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

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
    """Return a picture of 40 by 30 px."""
    return np.random.default_rng(seed).integers(0, 256, (30, 40, channels)).astype(np.uint8)


def make_sequence(folder: Path, *names: str) -> ImageSequence:
    """Write pictures of noise and return them as an album."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        Pillow.fromarray(noise(number)).save(folder / name, quality=90)
    (album,) = find_sources([folder])
    assert isinstance(album, ImageSequence)
    return album


def write_blacked_out(
    album: ImageSequence, work: Path, *, key: str = "", stop: int | None = None
) -> ImageSequenceWriter:
    """Paint an area of every picture black but the first."""
    prints = ImageSequenceWriter(work, album, key=key)
    with prints:
        done = prints.frames_done
        last = FramePosition(index=done - 1, time=(done - 1) / IMAGE_SEQUENCE_FPS) if done else None
        for frame in album.frames(note=lambda _: None, resume_after=last):
            if frame.index == stop:
                raise KeyboardInterrupt
            black = np.zeros_like(frame.image)
            areas = [AREA] if frame.index else []
            prints.write(black, frame.time, original=frame.original, changed=areas)
    return prints


def test_the_names_and_the_untouched_pixels_are_the_sources(tmp_path: Path) -> None:
    """A folder of pictures becomes a folder of the same; an unchanged one is the same file."""
    album = make_sequence(tmp_path / "in", "a.jpg", "b.png", "c.bmp", "d.webp")
    write_blacked_out(album, tmp_path / "work").finalize(tmp_path / "out")
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


def test_transparency_and_sixteen_bits_are_kept(tmp_path: Path) -> None:
    """Outside of the changed area nothing is rounded to eight bits, and alpha stays all over."""
    (tmp_path / "in").mkdir()
    image_io.write_png(tmp_path / "in" / "a.png", noise())
    Pillow.fromarray(noise(1, 4)).save(tmp_path / "in" / "b.png")
    deep = np.random.default_rng(2).integers(0, 65_536, (30, 40, 3)).astype(np.uint16)
    (tmp_path / "in" / "c.png").write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    (album,) = find_sources([tmp_path / "in"])
    assert isinstance(album, ImageSequence)
    write_blacked_out(album, tmp_path / "work").finalize(tmp_path / "out")
    clear = np.asarray(Pillow.open(tmp_path / "out" / "b.png"))
    np.testing.assert_array_equal(noise(1, 4)[..., 3], clear[..., 3])
    data = np.fromfile(tmp_path / "out" / "c.png", np.uint8)
    after = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    assert after is not None
    left, top, right, bottom = AREA
    assert 0 == after[top:bottom, left:right].max()
    deep[top:bottom, left:right] = 0
    np.testing.assert_array_equal(deep, after)


def test_a_turned_picture_comes_out_upright_with_its_notes(tmp_path: Path) -> None:
    """A telephone's JPEG is turned once, not twice, and keeps its maker and its profile."""
    (tmp_path / "in").mkdir()
    exif = Pillow.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    smooth = np.zeros((30, 40, 3), np.uint8)
    smooth[:, :20] = 200
    Pillow.fromarray(smooth).save(tmp_path / "in" / "a.jpg", exif=exif, icc_profile=b"profile")
    (album,) = find_sources([tmp_path / "in"])
    assert isinstance(album, ImageSequence)
    prints = ImageSequenceWriter(tmp_path / "work", album, key="")
    (frame,) = album.frames(note=lambda _: None)
    assert (40, 30, 3) == frame.image.shape
    prints.write(frame.image, frame.time, original=frame.original, changed=[Rect(0, 0, 4, 4)])
    prints.finalize(tmp_path / "out.jpg")
    with Pillow.open(tmp_path / "out.jpg") as made:
        assert (30, 40) == made.size
        assert ("a maker", 1) == (made.getexif()[0x010F], made.getexif().get(0x0112, 1))
        assert b"profile" == made.info["icc_profile"]
    shown = image_io.read_image(tmp_path / "out.jpg").astype(int)
    assert np.abs(shown - frame.image).max() < 12


def test_work_that_was_stopped_goes_on(tmp_path: Path) -> None:
    """Finished pictures are kept; other settings begin anew; nothing is in place before the end."""
    album = make_sequence(tmp_path / "in", *(f"{number}.png" for number in range(5)))
    (tmp_path / "in" / "1.png").write_bytes(b"not a picture")
    with pytest.raises(KeyboardInterrupt):
        write_blacked_out(album, tmp_path / "work", stop=3)
    assert 3 == ImageSequenceWriter(tmp_path / "work", album, key="").frames_done
    assert not (tmp_path / "out").exists()
    write_blacked_out(album, tmp_path / "work").finalize(tmp_path / "out")
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert ["0.png", "2.png", "3.png", "4.png"] == found
    assert 0 == ImageSequenceWriter(tmp_path / "work", album, key="other").frames_done


def test_the_pictures_read_are_never_written_over(tmp_path: Path) -> None:
    """Output and input are one folder: refused, and the pictures are whole."""
    album = make_sequence(tmp_path / "in", "a.png", "b.png")
    before = (tmp_path / "in" / "b.png").read_bytes()
    prints = write_blacked_out(album, tmp_path / "work")
    with pytest.raises(InputError, match="is where the pictures come from"):
        prints.finalize(tmp_path / "in")
    assert before == (tmp_path / "in" / "b.png").read_bytes()


def test_another_form_of_file_may_be_asked_for(tmp_path: Path) -> None:
    """A JPEG in, a PNG out; what is no picture's ending is refused."""
    album = make_sequence(tmp_path / "in", "a.jpg")
    prints = ImageSequenceWriter(tmp_path / "work", album, key="", suffix=".png")
    for frame in album.frames(note=lambda _: None):
        prints.write(frame.image, frame.time, original=frame.original)
    prints.finalize(tmp_path / "out.png")
    expected: Image = image_io.read_image(tmp_path / "in" / "a.jpg")
    np.testing.assert_array_equal(expected, image_io.read_image(tmp_path / "out.png"))
    with pytest.raises(InputError, match=r"cannot write a picture that ends in \.mp4"):
        ImageSequenceWriter(tmp_path / "work", album, key="", suffix=".mp4")


def test_the_kind_of_footage_decides_what_is_written(tmp_path: Path) -> None:
    """A film becomes a film, one picture a picture, several a folder; all else is refused."""
    album = make_sequence(tmp_path / "in", "a.png", "b.png")
    single = make_sequence(tmp_path / "one", "a.png")
    path = tmp_path / "film.mp4"
    with VideoWriter(path, size=(40, 30), rate=Fraction(25)) as video:
        video.write(noise(), Fraction(0))
    (film,) = find_sources([path])
    assert isinstance(film, VideoSource)

    def begun(footage: VideoSource | ImageSequence, name: str) -> ResumableOutput:
        output = tmp_path / name
        check_output(footage, output, codec=None)
        return open_output(footage, output, folder=tmp_path / "work", key="")

    assert isinstance(begun(film, "out.mkv"), SegmentedWriter)
    assert isinstance(begun(album, "out"), ImageSequenceWriter)
    assert isinstance(begun(single, "out.jpg"), ImageSequenceWriter)
    for footage, name, text in (
        (album, "out.png", r"2 images do not fit into out\.png"),
        (single, "out.mp4", r"cannot write a picture that ends in \.mp4"),
        (single, "one/a.png", "it would be lost"),
        (film, "film.mp4", "it would be lost"),
        (film, "out.png", r"cannot write a video named out\.png"),
    ):
        with pytest.raises(InputError, match=text):
            begun(footage, name)
