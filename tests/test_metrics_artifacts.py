"""Seams, colours, sharpness, trembling, flicker and identity: each fires on its own fault."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from faceswap_cli.core.types import Image, Mask
from faceswap_cli.evaluation.metrics import artifacts, identity, temporal
from faceswap_cli.evaluation.metrics.artifacts import FaceZones
from faceswap_cli.faces.embedding import compute_centroid

SIDE = 128
MetricFunction = Callable[[artifacts.Lab, artifacts.Lab, FaceZones], float]


def textured_image(seed: int = 0) -> Image:
    """Return a smooth picture with some detail."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 190, (6, 6, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).astype(np.float64)
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def disc_mask() -> Mask:
    """Return a round face."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (np.hypot(rows - 64, columns - 64) < 36).astype(np.float32)


def change_face(image: Image, changed: Image) -> Image:
    """Return a picture that is changed in the face."""
    return np.where(disc_mask()[..., None] > 0, changed, image).astype(np.uint8)


def brighten(image: Image, levels: int) -> Image:
    """Return a picture that is brighter by so many levels."""
    return np.clip(image.astype(int) + levels, 0, 255).astype(np.uint8)


ZONES = FaceZones.from_mask(disc_mask())


def test_the_zones_lie_where_they_say() -> None:
    """Bands inside and outside share no pixel, and the edge lies between them."""
    assert not (ZONES.inner & ZONES.outer).any()
    assert (ZONES.inner <= ZONES.face).all()
    assert not (ZONES.outer & ZONES.face).any()
    assert not (ZONES.seam & (ZONES.inner | ZONES.outer)).sum() > 0.2 * ZONES.seam.sum()
    assert set(range(artifacts.SECTOR_COUNT)) == set(np.unique(ZONES.sector[ZONES.inner]))


def test_footage_that_was_not_touched_has_no_fault() -> None:
    """A picture against itself: no edge, no step, no gap, as sharp, not changed."""
    image = textured_image()
    for measure in (artifacts.seam_gradient, artifacts.seam_color_step, artifacts.color_offset):
        assert 0 == apply_metric(measure, image, image)
    assert pytest.approx(1) == apply_metric(artifacts.sharpness_ratio, image, image)
    assert not artifacts.is_changed(image, image, ZONES)


def apply_metric(measure: MetricFunction, image: Image, original: Image) -> float:
    """Return what a measure says of a picture."""
    return measure(artifacts.to_lab(image), artifacts.to_lab(original), ZONES)


def test_a_brighter_face_has_an_edge_a_step_and_a_gap() -> None:
    """Each measure of the border grows with the fault."""
    image = textured_image()
    for measure in (artifacts.seam_gradient, artifacts.seam_color_step, artifacts.color_offset):
        values = [
            apply_metric(measure, change_face(image, brighten(image, levels)), image)
            for levels in (0, 8, 24)
        ]
        assert values[2] > values[1] > values[0]


def test_a_soft_border_is_less_of_an_edge_than_a_hard_one() -> None:
    """The same change of colour, feathered, is nearly no edge."""
    image = textured_image()
    soft = cv2.GaussianBlur(disc_mask(), (0, 0), 6)[..., None]
    feathered = np.clip(image + 20 * soft, 0, 255).astype(np.uint8)
    hard = apply_metric(artifacts.seam_gradient, change_face(image, brighten(image, 20)), image)
    assert apply_metric(artifacts.seam_gradient, feathered, image) < 0.4 * hard


def test_a_change_of_the_whole_frame_is_no_gap() -> None:
    """Footage that was graded everywhere keeps its steps."""
    image = textured_image()
    assert apply_metric(artifacts.color_offset, brighten(image, 20), image) < 1.0
    assert (
        apply_metric(artifacts.color_offset, change_face(image, brighten(image, 20)), image) > 5.0
    )


def test_a_blurred_face_loses_detail_and_a_blurred_frame_does_not() -> None:
    """What blurs everything alike is not the swap's doing."""
    image = textured_image()
    soft = cv2.GaussianBlur(image, (0, 0), 1.5).astype(np.uint8)
    assert apply_metric(artifacts.sharpness_ratio, change_face(image, soft), image) < 0.5
    assert 0.8 < apply_metric(artifacts.sharpness_ratio, soft, image) < 1.25


def test_what_encoding_does_is_no_swap() -> None:
    """Noise over the whole frame leaves a face unchanged; another face does not."""
    image = textured_image()
    noise = np.random.default_rng(5).normal(0, 4, image.shape)
    encoded = np.clip(image + noise, 0, 255).astype(np.uint8)
    assert not artifacts.is_changed(encoded, image, ZONES)
    assert artifacts.is_changed(change_face(encoded, textured_image(1)), image, ZONES)


def test_steady_motion_does_not_tremble() -> None:
    """A straight way has no second difference; a shaken one has what was put in."""
    way = np.arange(9.0)[:, None, None] * [3.0, -1.0] + np.zeros((9, 11, 2))
    scale, joined = np.full(9, 60.0), np.array([False] + [True] * 8)
    assert pytest.approx(0) == temporal.root_mean_square(
        temporal.landmark_jitter(way, scale, joined)
    )
    shaken = way.copy()
    shaken[4, :, 0] += 6
    curve = temporal.landmark_jitter(shaken, scale, joined)
    assert pytest.approx(12 / 60) == curve[4]
    assert pytest.approx(6 / 60) == curve[3]
    assert np.isnan(curve[[0, -1]]).all()


def test_a_cut_is_no_trembling() -> None:
    """Beside a frame that does not go on with the one before there is no value."""
    way = np.zeros((9, 11, 2))
    way[5:] += 200
    joined = np.array([index not in (0, 5) for index in range(9)])
    curve = temporal.landmark_jitter(way, np.full(9, 60.0), joined)
    assert [0, 4, 5, 8] == list(np.flatnonzero(np.isnan(curve)))
    assert 0 == np.nanmax(curve)


def test_motion_is_compensated_and_flicker_is_not() -> None:
    """What moves with the original leaves little over; a face whose light changes, its light."""
    big = cv2.resize(textured_image(2), (SIDE + 8, SIDE + 8), interpolation=cv2.INTER_CUBIC)
    before, now = big[4:-4, 4:-4], big[4:-4, 2:-6]
    motion = temporal.MotionCompensation(before.astype(np.uint8), now.astype(np.uint8))
    face, around = disc_mask(), 1 - disc_mask()
    still = motion.compute_residual(before, now, face=face, surroundings=around)
    lit = motion.compute_residual(
        before, change_face(now, brighten(now, 12)), face=face, surroundings=around
    )
    plain = float(np.abs(now.astype(int) - before).mean())
    assert still.inside < 0.7 * plain
    assert pytest.approx(12, abs=2.5) == lit.inside
    assert pytest.approx(still.outside) == lit.outside


def test_where_the_motion_is_lost_nothing_counts() -> None:
    """What comes into view in the original itself is nobody's flicker."""
    before, now, swapped = (textured_image(3) for _ in range(3))
    new = slice(0, SIDE // 2)
    before[new], now[new], swapped[new] = 20, 200, 240
    motion = temporal.MotionCompensation(before, now)
    over, under = np.zeros((2, SIDE, SIDE), np.float32)
    over[: SIDE // 2 - 16] = 1
    under[SIDE // 2 + 16 :] = 1
    left = motion.compute_residual(before, swapped, face=over, surroundings=over + under)
    assert np.isnan(left.inside)
    assert left.outside < 1


def test_faces_are_retrieved_by_the_nearest_centre() -> None:
    """A face is the wanted person's if no other centre is nearer; no face is nobody's."""
    people = np.eye(3)
    directions = np.array([[0.9, 0.1, 0.1], [0.2, 0.9, 0], [np.nan] * 3])
    found = identity.retrieval_hits(directions, people[0], people[1:])
    assert [1, 0] == list(found[:2])
    assert np.isnan(found[2])
    assert pytest.approx([0.9, 0.2]) == identity.cosine_similarity(directions[:2], people[0])


def test_a_centre_is_a_direction() -> None:
    """The mean of directions has length one again, and leaves out what is not there."""
    some = np.array([[1.0, 0], [0, 1], [np.nan, np.nan]])
    assert pytest.approx([0.5**0.5] * 2) == compute_centroid(some)
