"""Seams, colours, sharpness, trembling, flicker and identity: each fires on its own fault."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from faceswap_cli.arrays import Image, Mask
from faceswap_cli.metrics import identity, stillness, surface
from faceswap_cli.metrics.surface import Zones

SIDE = 128
Measure = Callable[[surface.Lab, surface.Lab, Zones], float]


def picture(seed: int = 0) -> Image:
    """Return a smooth picture with some detail."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 190, (6, 6, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).astype(np.float64)
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def disc() -> Mask:
    """Return a round face."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (np.hypot(rows - 64, columns - 64) < 36).astype(np.float32)


def inside(image: Image, changed: Image) -> Image:
    """Return a picture that is changed in the face."""
    return np.where(disc()[..., None] > 0, changed, image).astype(np.uint8)


def brighter(image: Image, levels: int) -> Image:
    """Return a picture that is brighter by so many levels."""
    return np.clip(image.astype(int) + levels, 0, 255).astype(np.uint8)


ZONES = Zones.of(disc())


def test_the_zones_lie_where_they_say() -> None:
    """Bands inside and outside share no pixel, and the edge lies between them."""
    assert not (ZONES.inner & ZONES.outer).any()
    assert (ZONES.inner <= ZONES.face).all()
    assert not (ZONES.outer & ZONES.face).any()
    assert not (ZONES.edge & (ZONES.inner | ZONES.outer)).sum() > 0.2 * ZONES.edge.sum()
    assert set(range(surface.SECTORS)) == set(np.unique(ZONES.sector[ZONES.inner]))


def test_footage_that_was_not_touched_has_no_fault() -> None:
    """A picture against itself: no edge, no step, no gap, as sharp, not changed."""
    image = picture()
    for measure in (surface.edge, surface.colour_step, surface.colour_gap):
        assert 0 == measured(measure, image, image)
    assert pytest.approx(1) == measured(surface.detail_ratio, image, image)
    assert not surface.is_changed(image, image, ZONES)


def measured(measure: Measure, image: Image, original: Image) -> float:
    """Return what a measure says of a picture."""
    return measure(surface.lab(image), surface.lab(original), ZONES)


def test_a_brighter_face_has_an_edge_a_step_and_a_gap() -> None:
    """Each measure of the border grows with the fault."""
    image = picture()
    for measure in (surface.edge, surface.colour_step, surface.colour_gap):
        values = [
            measured(measure, inside(image, brighter(image, levels)), image)
            for levels in (0, 8, 24)
        ]
        assert values[2] > values[1] > values[0]


def test_a_soft_border_is_less_of_an_edge_than_a_hard_one() -> None:
    """The same change of colour, feathered, is nearly no edge."""
    image = picture()
    soft = cv2.GaussianBlur(disc(), (0, 0), 6)[..., None]
    feathered = np.clip(image + 20 * soft, 0, 255).astype(np.uint8)
    hard = measured(surface.edge, inside(image, brighter(image, 20)), image)
    assert measured(surface.edge, feathered, image) < 0.4 * hard


def test_a_change_of_the_whole_frame_is_no_gap() -> None:
    """Footage that was graded everywhere keeps its steps."""
    image = picture()
    assert measured(surface.colour_gap, brighter(image, 20), image) < 1.0
    assert measured(surface.colour_gap, inside(image, brighter(image, 20)), image) > 5.0


def test_a_blurred_face_loses_detail_and_a_blurred_frame_does_not() -> None:
    """What blurs everything alike is not the swap's doing."""
    image = picture()
    soft = cv2.GaussianBlur(image, (0, 0), 1.5).astype(np.uint8)
    assert measured(surface.detail_ratio, inside(image, soft), image) < 0.5
    assert 0.8 < measured(surface.detail_ratio, soft, image) < 1.25


def test_what_encoding_does_is_no_swap() -> None:
    """Noise over the whole frame leaves a face unchanged; another face does not."""
    image = picture()
    noise = np.random.default_rng(5).normal(0, 4, image.shape)
    encoded = np.clip(image + noise, 0, 255).astype(np.uint8)
    assert not surface.is_changed(encoded, image, ZONES)
    assert surface.is_changed(inside(encoded, picture(1)), image, ZONES)


def test_steady_motion_does_not_tremble() -> None:
    """A straight way has no second difference; a shaken one has what was put in."""
    way = np.arange(9.0)[:, None, None] * [3.0, -1.0] + np.zeros((9, 11, 2))
    scale, joined = np.full(9, 60.0), np.array([False] + [True] * 8)
    assert pytest.approx(0) == stillness.root_mean_square(stillness.trembling(way, scale, joined))
    shaken = way.copy()
    shaken[4, :, 0] += 6
    curve = stillness.trembling(shaken, scale, joined)
    assert pytest.approx(12 / 60) == curve[4]
    assert pytest.approx(6 / 60) == curve[3]
    assert np.isnan(curve[[0, -1]]).all()


def test_a_cut_is_no_trembling() -> None:
    """Beside a frame that does not go on with the one before there is no value."""
    way = np.zeros((9, 11, 2))
    way[5:] += 200
    joined = np.array([index not in (0, 5) for index in range(9)])
    curve = stillness.trembling(way, np.full(9, 60.0), joined)
    assert [0, 4, 5, 8] == list(np.flatnonzero(np.isnan(curve)))
    assert 0 == np.nanmax(curve)


def test_motion_is_compensated_and_flicker_is_not() -> None:
    """What moves with the original leaves little over; a face whose light changes, its light."""
    big = cv2.resize(picture(2), (SIDE + 8, SIDE + 8), interpolation=cv2.INTER_CUBIC)
    before, now = big[4:-4, 4:-4], big[4:-4, 2:-6]
    motion = stillness.Compensation(before.astype(np.uint8), now.astype(np.uint8))
    face, around = disc(), 1 - disc()
    still = motion.residual(before, now, face=face, around=around)
    lit = motion.residual(before, inside(now, brighter(now, 12)), face=face, around=around)
    plain = float(np.abs(now.astype(int) - before).mean())
    assert still.inside < 0.7 * plain
    assert pytest.approx(12, abs=2.5) == lit.inside
    assert pytest.approx(still.outside) == lit.outside


def test_where_the_motion_is_lost_nothing_counts() -> None:
    """What comes into view in the original itself is nobody's flicker."""
    before, now, swapped = (picture(3) for _ in range(3))
    new = slice(0, SIDE // 2)
    before[new], now[new], swapped[new] = 20, 200, 240
    motion = stillness.Compensation(before, now)
    over, under = np.zeros((2, SIDE, SIDE), np.float32)
    over[: SIDE // 2 - 16] = 1
    under[SIDE // 2 + 16 :] = 1
    left = motion.residual(before, swapped, face=over, around=over + under)
    assert np.isnan(left.inside)
    assert left.outside < 1


def test_faces_are_retrieved_by_the_nearest_centre() -> None:
    """A face is the wanted person's if no other centre is nearer; no face is nobody's."""
    people = np.eye(3)
    directions = np.array([[0.9, 0.1, 0.1], [0.2, 0.9, 0], [np.nan] * 3])
    found = identity.retrieved(directions, people[0], people[1:])
    assert [1, 0] == list(found[:2])
    assert np.isnan(found[2])
    assert pytest.approx([0.9, 0.2]) == identity.likeness(directions[:2], people[0])


def test_a_centre_is_a_direction() -> None:
    """The mean of directions has length one again, and leaves out what is not there."""
    some = np.array([[1.0, 0], [0, 1], [np.nan, np.nan]])
    assert pytest.approx([0.5**0.5] * 2) == identity.centre(some)
