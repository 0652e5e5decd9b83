from pathlib import Path

import cv2
import numpy as np
import pytest

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError


def test_a_picture_survives_writing_and_reading(tmp_path: Path) -> None:
    """PNG is lossless, keeps the order of the channels, and takes any path."""
    image = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    path = tmp_path / "ein Ordner mit Ümläut" / "画像.png"
    image_io.write_png(path, image)
    assert np.array_equal(image, image_io.read_image(path))


def test_a_photograph_is_written_without_loss_and_smaller() -> None:
    """Coded as a photograph, what changes gently keeps every level and takes less room."""
    slope = np.add.outer(np.linspace(0, 150, 96), np.linspace(0, 60, 128))[..., None]
    grain = np.random.default_rng(0).normal(20, 2, (96, 128, 3))
    image = (slope + grain).astype(np.uint8)

    photo = image_io.encode_png(image, is_photo=True)

    assert np.array_equal(image, cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR_RGB))
    assert len(photo) < len(image_io.encode_png(image))


def test_what_is_not_a_picture_is_said_to_be_none(tmp_path: Path) -> None:
    """Empty, missing and other files are refused by name."""
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    for name in ("text.png", "empty.png", "missing.png"):
        with pytest.raises(InputError, match=name):
            image_io.read_image(tmp_path / name)


def test_a_picture_that_ends_early_is_refused_in_our_own_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The library that reads it adds no line of its own."""
    whole = image_io.encode_png(np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "half.png").write_bytes(whole[:60])
    with pytest.raises(InputError, match=r"half\.png is not an image"):
        image_io.read_image(tmp_path / "half.png")
    assert ("", "") == capfd.readouterr()


def test_a_sheet_shows_every_tile_in_its_place() -> None:
    """Row and column of a tile are where its colour stands."""
    tiles = [[np.full((8, 8, 3), 40 * (3 * y + x), np.uint8) for x in range(3)] for y in range(2)]
    plain = image_io.make_grid(tiles, side=20, gap=4)
    assert (2 * 24 + 4, 3 * 24 + 4, 3) == plain.shape
    for y in range(2):
        for x in range(3):
            assert 40 * (3 * y + x) == plain[14 + 24 * y, 14 + 24 * x, 0]


def test_captions_take_room_of_their_own() -> None:
    """Captions never cover a tile."""
    tile = np.full((32, 32, 3), 7, np.uint8)
    bare = image_io.make_grid([[tile, tile]], side=32)
    named = image_io.make_grid([[tile, tile]], side=32, columns=["one", "two"], labels=["row"])
    assert named.shape[0] > bare.shape[0]
    assert named.shape[1] > bare.shape[1]
    assert (bare == 7).sum() == (named == 7).sum()
