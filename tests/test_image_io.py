from pathlib import Path

import cv2
import numpy as np
import pytest

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError


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
