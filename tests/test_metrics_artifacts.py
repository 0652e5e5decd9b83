"""Seam, color, sharpness, jitter, flicker and identity: each metric reacts to its own fault."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from faceswap_cli.core.types import Image, Mask
from faceswap_cli.evaluation.frame_eval import is_forehead_changed
from faceswap_cli.evaluation.metrics import artifacts, identity, temporal
from faceswap_cli.evaluation.metrics.artifacts import FaceZones
from faceswap_cli.faces.embedding import compute_centroid

SIDE = 128
MetricFunction = Callable[[artifacts.Lab, artifacts.Lab, FaceZones], float]


def textured_image(seed: int = 0) -> Image:
    """Return a smooth image with some detail."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 190, (6, 6, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).astype(np.float64)
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def disc_mask() -> Mask:
    """Return the mask of a round face."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (np.hypot(rows - 64, columns - 64) < 36).astype(np.float32)


def change_face(image: Image, changed: Image) -> Image:
    """Return the image with the changed one's face."""
    return np.where(disc_mask()[..., None] > 0, changed, image).astype(np.uint8)


def brighten(image: Image, levels: int) -> Image:
    """Return the image, brighter by some levels."""
    return np.clip(image.astype(int) + levels, 0, 255).astype(np.uint8)


ZONES = FaceZones.from_mask(disc_mask())


def test_zones_are_disjoint() -> None:
    """Bands inside and outside share no pixel, and the seam is between them."""
    assert not (ZONES.inner & ZONES.outer).any()
    assert (ZONES.inner <= ZONES.face).all()
    assert not (ZONES.outer & ZONES.face).any()
    assert not (ZONES.seam & (ZONES.inner | ZONES.outer)).sum() > 0.2 * ZONES.seam.sum()
    assert set(range(artifacts.SECTOR_COUNT)) == set(np.unique(ZONES.sector[ZONES.inner]))


def test_unchanged_image_has_no_artifacts() -> None:
    """An image against itself: no seam, no offset, as sharp, not changed."""
    image = textured_image()
    for metric in (artifacts.seam_gradient, artifacts.seam_color_step, artifacts.color_offset):
        assert 0 == apply_metric(metric, image, image)
    assert pytest.approx(1) == apply_metric(artifacts.sharpness_ratio, image, image)
    assert not artifacts.is_changed(image, image, ZONES)


def apply_metric(metric: MetricFunction, image: Image, original: Image) -> float:
    """Return a metric of an image."""
    return metric(artifacts.to_lab(image), artifacts.to_lab(original), ZONES)


def test_brighter_face_has_a_seam_and_an_offset() -> None:
    """Each metric of the border grows with the fault."""
    image = textured_image()
    for metric in (artifacts.seam_gradient, artifacts.seam_color_step, artifacts.color_offset):
        values = [
            apply_metric(metric, change_face(image, brighten(image, levels)), image)
            for levels in (0, 8, 24)
        ]
        assert values[2] > values[1] > values[0]


def test_soft_border_has_a_lower_gradient_than_a_hard_one() -> None:
    """The same change of color, feathered, has nearly no seam."""
    image = textured_image()
    soft = cv2.GaussianBlur(disc_mask(), (0, 0), 6)[..., None]
    feathered = np.clip(image + 20 * soft, 0, 255).astype(np.uint8)
    hard = apply_metric(artifacts.seam_gradient, change_face(image, brighten(image, 20)), image)
    assert apply_metric(artifacts.seam_gradient, feathered, image) < 0.4 * hard


def test_change_of_the_whole_frame_is_no_offset() -> None:
    """A frame that is brighter everywhere keeps its color steps."""
    image = textured_image()
    assert apply_metric(artifacts.color_offset, brighten(image, 20), image) < 1.0
    assert (
        apply_metric(artifacts.color_offset, change_face(image, brighten(image, 20)), image) > 5.0
    )


def test_blurred_face_is_less_sharp_and_a_blurred_frame_is_not() -> None:
    """Sharpness is relative to the surroundings."""
    image = textured_image()
    soft = cv2.GaussianBlur(image, (0, 0), 1.5).astype(np.uint8)
    assert apply_metric(artifacts.sharpness_ratio, change_face(image, soft), image) < 0.5
    assert 0.8 < apply_metric(artifacts.sharpness_ratio, soft, image) < 1.25


def test_encoding_is_no_swap() -> None:
    """Noise over the whole frame leaves a face unchanged; another face does not."""
    image = textured_image()
    noise = np.random.default_rng(5).normal(0, 4, image.shape)
    encoded = np.clip(image + noise, 0, 255).astype(np.uint8)
    assert not artifacts.is_changed(encoded, image, ZONES)
    assert artifacts.is_changed(change_face(encoded, textured_image(1)), image, ZONES)


def test_constant_motion_has_no_jitter() -> None:
    """A straight path has no second difference; a displaced frame has its displacement."""
    path = np.arange(9.0)[:, None, None] * [3.0, -1.0] + np.zeros((9, 11, 2))
    scale, is_continuous = np.full(9, 60.0), np.array([False] + [True] * 8)
    assert pytest.approx(0) == temporal.root_mean_square(
        temporal.landmark_jitter(path, scale, is_continuous)
    )
    displaced = path.copy()
    displaced[4, :, 0] += 6
    curve = temporal.landmark_jitter(displaced, scale, is_continuous)
    assert pytest.approx(12 / 60) == curve[4]
    assert pytest.approx(6 / 60) == curve[3]
    assert np.isnan(curve[[0, -1]]).all()


def test_cut_is_no_jitter() -> None:
    """Frames next to a cut have no value."""
    path = np.zeros((9, 11, 2))
    path[5:] += 200
    is_continuous = np.array([index not in (0, 5) for index in range(9)])
    curve = temporal.landmark_jitter(path, np.full(9, 60.0), is_continuous)
    assert [0, 4, 5, 8] == list(np.flatnonzero(np.isnan(curve)))
    assert 0 == np.nanmax(curve)


def test_motion_is_compensated_and_flicker_is_not() -> None:
    """Motion of the original leaves a small residual; a change of the face's light remains."""
    big = cv2.resize(textured_image(2), (SIDE + 8, SIDE + 8), interpolation=cv2.INTER_CUBIC)
    previous, current = big[4:-4, 4:-4], big[4:-4, 2:-6]
    motion = temporal.MotionCompensation(previous.astype(np.uint8), current.astype(np.uint8))
    face, around = disc_mask(), 1 - disc_mask()
    moved = motion.compute_residual(previous, current, face=face, surroundings=around)
    brightened = motion.compute_residual(
        previous, change_face(current, brighten(current, 12)), face=face, surroundings=around
    )
    uncompensated = float(np.abs(current.astype(int) - previous).mean())
    assert moved.inside < 0.7 * uncompensated
    assert pytest.approx(12, abs=2.5) == brightened.inside
    assert pytest.approx(moved.outside) == brightened.outside


def test_unreliable_flow_does_not_count() -> None:
    """A change of the original itself, which motion does not explain, is no flicker."""
    previous, current, swapped = (textured_image(3) for _ in range(3))
    upper = slice(0, SIDE // 2)
    previous[upper], current[upper], swapped[upper] = 20, 200, 240
    motion = temporal.MotionCompensation(previous, current)
    over, under = np.zeros((2, SIDE, SIDE), np.float32)
    over[: SIDE // 2 - 16] = 1
    under[SIDE // 2 + 16 :] = 1
    residual = motion.compute_residual(previous, swapped, face=over, surroundings=over + under)
    assert np.isnan(residual.inside)
    assert residual.outside < 1


def test_faces_are_retrieved_by_the_nearest_centroid() -> None:
    """A face is a hit if no distractor is nearer; a missing face is NaN."""
    centroids = np.eye(3)
    embeddings = np.array([[0.9, 0.1, 0.1], [0.2, 0.9, 0], [np.nan] * 3])
    hits = identity.retrieval_hits(embeddings, centroids[0], centroids[1:])
    assert [1, 0] == list(hits[:2])
    assert np.isnan(hits[2])
    assert pytest.approx([0.9, 0.2]) == identity.cosine_similarity(embeddings[:2], centroids[0])


def test_centroid_is_normalized() -> None:
    """The mean of embeddings has length 1, and ignores missing ones."""
    embeddings = np.array([[1.0, 0], [0, 1], [np.nan, np.nan]])
    assert pytest.approx([0.5**0.5] * 2) == compute_centroid(embeddings)


@pytest.mark.parametrize(
    ("top", "feather", "expected"), [(70, 1, False), (70, 12, False), (40, 1, True), (40, 12, True)]
)
def test_a_forehead_counts_where_it_was_swapped(top: int, feather: int, expected: bool) -> None:
    """Up to the hair it is a part of the swap; the soft edge of an outline below is not."""
    outline, found, painted = (np.zeros((256, 256), np.float32) for _ in range(3))
    for mask, first in ((outline, 70), (found, 40), (painted, top)):
        mask[first:200, 60:190] = 1
    original = np.random.default_rng(0).integers(90, 110, (256, 256, 3), np.uint8)
    alpha = cv2.blur(painted, (2 * feather + 1, 2 * feather + 1))[..., None]
    swapped = np.round(original + 30 * alpha).astype(np.uint8)
    assert expected == is_forehead_changed(swapped, original, outline, found)
    assert not is_forehead_changed(original, original, outline, found)
