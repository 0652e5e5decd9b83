import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.types import Image


def test_an_image_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Lossless, with the same order of channels, at any path."""
    image = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    path = tmp_path / "ein Ordner mit Ümläut" / "画像.png"
    image_io.write_png(path, image)
    assert np.array_equal(image, image_io.read_image(path))


def test_a_photo_png_is_lossless_and_smaller() -> None:
    """For a smooth image with noise."""
    slope = np.add.outer(np.linspace(0, 150, 96), np.linspace(0, 60, 128))[..., None]
    grain = np.random.default_rng(0).normal(20, 2, (96, 128, 3))
    image = (slope + grain).astype(np.uint8)

    photo = image_io.encode_png(image, is_photo=True)

    assert np.array_equal(image, cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR_RGB))
    assert len(photo) < len(image_io.encode_png(image))


def test_files_that_are_not_images_are_refused(tmp_path: Path) -> None:
    """The error names empty, missing and other files."""
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    for name in ("text.png", "empty.png", "missing.png"):
        with pytest.raises(InputError, match=name):
            image_io.read_image(tmp_path / name)


def test_a_truncated_image_is_refused_without_opencvs_own_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """OpenCV prints nothing."""
    data = image_io.encode_png(np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "half.png").write_bytes(data[:60])
    with pytest.raises(InputError, match=r"half\.png is not an image"):
        image_io.read_image(tmp_path / "half.png")
    assert ("", "") == capfd.readouterr()


def test_a_damaged_animation_shows_its_first_frame(tmp_path: Path) -> None:
    """OpenCV ends the whole process with a segmentation fault in the chunks of the others."""
    colors = [(40 * one + 10, 100, 200 - 30 * one) for one in range(5)]
    frames = [Pillow.fromarray(np.full((48, 64, 3), color, np.uint8)) for color in colors]
    path = tmp_path / "wave.png"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    data = bytearray(path.read_bytes().replace(b"fcTL", b"pcTL", 1))
    data[data.index(b"fdAT") + 60] ^= 51
    path.write_bytes(data)
    np.testing.assert_array_equal(np.asarray(frames[0]), image_io.read_image(path))


def test_a_damaged_png_is_refused_without_a_word_of_libpng(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By its checksums and its header: with any bit changed, or no size, it prints nothing."""
    data = image_io.encode_png(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))
    changes = [
        data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        for position in (17, 20, 60, len(data) // 2, len(data) - 20)
    ]
    for header in (
        struct.pack(">2I5B", 0, 0, 8, 2, 0, 0, 0),
        struct.pack(">2I5B", 9, 9, 3, 2, 0, 0, 9),
    ):
        checksum = struct.pack(">I", zlib.crc32(b"IHDR" + header))
        changes.append(data[:16] + header + checksum + data[33:])
    for damaged in (*changes, data[:8]):
        (tmp_path / "flip.png").write_bytes(damaged)
        with pytest.raises(InputError, match=r"flip\.png is not an image"):
            image_io.read_image(tmp_path / "flip.png")
    assert ("", "") == capfd.readouterr()


def test_an_image_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    """A header that claims 40 gigapixels gets one line with its size, before it is decoded."""
    wide = bytearray(cv2.imencode(".bmp", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    wide[18:26] = struct.pack("<2i", 200_000, 200_000)
    (tmp_path / "wide.bmp").write_bytes(wide)
    with pytest.raises(InputError, match=r"wide\.bmp has 200,000 x 200,000 px, more than 268"):
        image_io.read_image(tmp_path / "wide.bmp")


def corners() -> Image:
    """Return an image of 40 by 30 px with another color in each quarter."""
    image = np.zeros((30, 40, 3), np.uint8)
    image[:15, :20], image[:15, 20:] = (200, 40, 40), (40, 200, 40)
    image[15:, :20], image[15:, 20:] = (40, 40, 200), (200, 200, 200)
    return image


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_upright_however_it_is_stored(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    """By EXIF, or in AVIF by the properties of its own: that one was on its side.

    The stored pixels are turned alike.
    """
    path, exif = tmp_path / f"image{suffix}", Pillow.Exif()
    exif[0x0112] = orientation
    Pillow.fromarray(corners()).save(path, exif=exif)
    with Pillow.open(path) as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened).convert("RGB")).astype(int)
    assert upright.shape == (corners().shape if orientation < 5 else (40, 30, 3))
    assert np.abs(upright - image_io.read_image(path))[5:-5, 5:-5].mean() < 3
    stored = image_io.read_stored_pixels(path)
    assert stored is not None
    assert np.array_equal(stored, image_io.read_image(path))


def make_cmyk_profile() -> bytes:
    """Return an ICC profile of inks by which any black ink is black, and none is white.

    ICC.1:2004, 10.8: a table (lut8Type) from four inks, two steps each, to L*a*b*.
    """
    identity = bytes(range(256))
    lightness = [0 if index % 2 else 255 for index in range(16)]  # the last ink varies fastest
    table = b"".join(bytes([level, 128, 128]) for level in lightness)
    matrix = struct.pack(">9i", *(65536 * (index % 4 == 0) for index in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + 4 * identity + table + 3 * identity
    lut += bytes(-len(lut) % 4)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags, offset = b"", 128 + 4 + 2 * 12
    for name, content in ((b"A2B0", lut), (b"wtpt", white)):
        tags += name + struct.pack(">2I", offset, len(content))
        offset += len(content)
    header = struct.pack(">I4sI4s4s4s", offset, b"", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp"
    header = header.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", 2) + tags + lut + white


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_printing_inks_are_converted_by_their_profile(tmp_path: Path, suffix: str) -> None:
    """Half of this profile's black ink is a middle gray of L* 50; without it, of 128 levels."""
    inks = np.zeros((30, 40, 4), np.uint8)
    inks[..., 0], inks[..., 3] = 255, 128  # cyan is no color by this profile
    path = tmp_path / f"image{suffix}"
    Pillow.fromarray(inks, mode="CMYK").save(path, icc_profile=make_cmyk_profile())
    header = image_io.read_header(path)
    assert header is not None
    assert "cmyk" == header.color_model
    np.testing.assert_allclose(image_io.read_image(path), 118, atol=3)
    assert image_io.read_stored_pixels(path) is None
    Pillow.fromarray(inks, mode="CMYK").save(path)
    np.testing.assert_allclose(image_io.read_image(path)[0, 0], [0, 127, 127], atol=2)


def test_a_grid_has_every_tile_at_its_position() -> None:
    """The color at a row and column is that tile's."""
    tiles = [[np.full((8, 8, 3), 40 * (3 * y + x), np.uint8) for x in range(3)] for y in range(2)]
    grid = image_io.make_grid(tiles, side=20, gap=4)
    assert (2 * 24 + 4, 3 * 24 + 4, 3) == grid.shape
    for y in range(2):
        for x in range(3):
            assert 40 * (3 * y + x) == grid[14 + 24 * y, 14 + 24 * x, 0]


def test_captions_do_not_cover_tiles() -> None:
    """The grid is larger with captions."""
    tile = np.full((32, 32, 3), 7, np.uint8)
    plain = image_io.make_grid([[tile, tile]], side=32)
    named = image_io.make_grid([[tile, tile]], side=32, columns=["one", "two"], labels=["row"])
    assert named.shape[0] > plain.shape[0]
    assert named.shape[1] > plain.shape[1]
    assert (plain == 7).sum() == (named == 7).sum()


def test_a_jpeg_with_a_checksum_is_read_unchanged_or_not_at_all(tmp_path: Path) -> None:
    """Whichever bit is flipped; a JPEG alone shows other pixels after most of them."""
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    plain = image_io.encode_jpeg(image)
    data = image_io.add_jpeg_checksum(plain)
    path = tmp_path / "crop.jpg"
    path.write_bytes(plain)
    expected = image_io.read_image(path)
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        try:
            assert np.array_equal(expected, image_io.read_image(path)), place
        except InputError:
            continue
    path.write_bytes(data)
    assert np.array_equal(expected, image_io.read_image(path))
    assert "JPEG" == Pillow.open(path).format
