"""Drawn occluders: what they cover is known exactly."""

import numpy as np
import pytest

from faceswap_cli.core.types import Image, Mask
from faceswap_cli.faces.alignment import (
    FaceAlignment,
    build_template,
    fit_affine_to_template,
    transform_points,
)
from faceswap_cli.synthetic.occluders import (
    MARKS,
    OCCLUDERS,
    OccluderLayer,
    cover_crop,
    random_mark,
    random_occluder,
)
from faceswap_cli.synthetic.occluders.bank import BANK_SIZE, draw_bank
from faceswap_cli.synthetic.occluders.hand import draw_hand

SIDE_PX = 96
KINDS = {**OCCLUDERS, **MARKS}


def make_face() -> tuple[Image, Mask]:
    """Return a plain crop, and the mask of a face in its middle."""
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX] - SIDE_PX / 2
    face = (rows**2 + columns**2 < (0.35 * SIDE_PX) ** 2).astype(np.float32)
    return np.full((SIDE_PX, SIDE_PX, 3), (200, 150, 120), np.uint8), face


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_and_the_same_for_a_seed(kind: str) -> None:
    """Something is seen, and numbers decide what."""
    draw, _ = KINDS[kind]
    layers = [draw(np.random.default_rng(seed), SIDE_PX) for seed in range(12)]
    for layer in layers:
        assert (SIDE_PX, SIDE_PX, 4) == layer.pixels.shape
        assert np.uint8 == layer.pixels.dtype
    # Some are out of the square.
    assert sum(layer.pixels[..., 3].max() > 12 for layer in layers) >= 9
    again = draw(np.random.default_rng(3), SIDE_PX)
    np.testing.assert_array_equal(layers[3].pixels, again.pixels)


@pytest.mark.parametrize("table", [OCCLUDERS, MARKS])
def test_shares_add_up(table: dict[str, tuple[object, float]]) -> None:
    """The shares of a table are probabilities."""
    assert pytest.approx(1) == sum(share for _, share in table.values())


def test_what_is_hidden_does_not_show_through() -> None:
    """Where the mask says that no face is seen, the image does not depend on the face."""
    image, face = make_face()
    other = np.where(face[..., None] > 0, 255 - image, image).astype(np.uint8)
    hidden_px = 0
    for seed in range(30):
        layer = random_occluder(seed, SIDE_PX)
        # A color of its own: hands in the face's color depend on it, as they shall.
        one, two = (
            cover_crop(each, face, layer, np.random.default_rng(seed + 1000), skin_like=False)
            for each in (image, other)
        )
        np.testing.assert_array_equal(one.visible, two.visible)
        assert (one.visible <= face).all()
        hidden = (face == 1) & (one.visible < 1e-3)
        difference = np.abs(one.image.astype(int) - two.image)[hidden]
        assert difference.max(initial=0) <= 1
        hidden_px += hidden.sum()
    assert hidden_px > 5_000


def test_marks_hide_nothing_and_stay_on_the_face() -> None:
    """A beard, a shadow or a lens changes the face's look; all of it counts as seen."""
    image, face = make_face()
    changed = 0
    for seed in range(30):
        covered = cover_crop(image, face, random_mark(seed, SIDE_PX), np.random.default_rng(seed))
        np.testing.assert_array_equal(face, covered.visible)
        np.testing.assert_array_equal(image[face == 0], covered.image[face == 0])
        changed += (covered.image != image).any()
    assert changed > 20


def test_glasses_follow_a_turned_face() -> None:
    """What is worn is placed by the map to the face, and nothing else moves it."""
    opacity = np.pad(np.ones((10, 10), np.float32), ((20, 66), (40, 46)))
    layer = OccluderLayer.from_drawing(np.zeros((*opacity.shape, 3)), opacity, is_worn=True)
    image, _ = make_face()
    face = np.ones((SIDE_PX, SIDE_PX), np.float32)
    to_face = np.array([[1.0, 0, 7], [0, 1, -5]])
    for seed in range(20):
        rng = np.random.default_rng(seed)
        visible = cover_crop(image, face, layer, rng, to_face=to_face).visible
        rows, columns = np.nonzero(visible < 0.5)
        assert abs(rows.mean() - (24.5 - 5)) < 1
        assert abs(columns.mean() - (44.5 + 7)) < 1


def test_an_affine_map_follows_a_turned_head() -> None:
    """Landmarks that are the template, squeezed, give back the squeeze."""
    indices, template = build_template()
    squeeze = np.array([[0.6, 0.05, 0.2], [0.0, 1.0, 0.01]])
    landmarks = np.zeros((478, 2), np.float32)
    landmarks[indices] = transform_points(template, squeeze) * 100
    square = FaceAlignment(to_unit=np.array([[0.01, 0, 0], [0, 0.01, 0]]))
    found = fit_affine_to_template(landmarks, square, 50)
    middle = transform_points(np.array([[24.5, 24.5]], np.float32), found)
    target = transform_points(np.array([[0.5, 0.5]], np.float32), squeeze) * 50 - 0.5
    np.testing.assert_allclose(target, middle, atol=1e-3)


def test_hands_have_any_skin_and_fingers() -> None:
    """Dark and light hands are drawn, and between open fingers something else is seen."""
    layers = [draw_hand(np.random.default_rng(seed), SIDE_PX) for seed in range(40)]
    solid = [one.pixels for one in layers if (one.pixels[..., 3] == 255).sum() > 200]
    brightness = [one[..., :3][one[..., 3] == 255].mean() for one in solid]
    assert min(brightness) < 64
    assert max(brightness) > 128
    # In some row of an open hand, opacity rises and falls several times.
    crossings = [
        max((np.diff((row > 127).astype(int)) == 1).sum() for row in one[..., 3]) for one in solid
    ]
    assert max(crossings) >= 4


def test_a_bank_has_only_what_may_be_before_any_face() -> None:
    """Every thing of a stock is seen, fits the network's square, and is the same for a seed."""
    bank = draw_bank(48, 0.8, seed=3)
    assert (BANK_SIZE, 48, 48, 4) == bank.shape
    assert (bank[..., 3].mean(axis=(1, 2)) >= 255 * 0.03).all()
    np.testing.assert_array_equal(bank, draw_bank(48, 0.8, seed=3))
