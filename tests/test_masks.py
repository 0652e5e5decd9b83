"""The face's outline, masks in crops, sharpness and how much is cut off."""

import cv2
import numpy as np
import pytest

from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.core.types import Points
from faceswap_cli.faces.alignment import FaceAlignment, align_face, transform_points
from faceswap_cli.faces.crops import measure_cut_off, measure_sharpness
from faceswap_cli.faces.detectors.mediapipe import MediaPipeDetector
from faceswap_cli.faces.masks import (
    EYELIDS,
    FACE_OVAL,
    INNER_LIPS,
    MASK_MODES,
    OUTER_LIPS,
    OUTLINE_SCALE,
    SUPERSAMPLING,
    enlarge_outline,
    eyes_mouth_mask,
    face_mask,
    face_oval,
    mouth_mask,
)
from faceswap_cli.synthetic import CAST, HeadModel, SceneParams, render_frame

SQUARE = FaceAlignment(to_unit=np.array([[0.01, 0, 0], [0, 0.01, 0]]))
"""The first 100 px of a frame."""


def ellipse(*, center: tuple[float, float], radii: tuple[float, float]) -> Points:
    """Return landmarks with an ellipse as face oval; all others are at its center."""
    landmarks = np.tile(np.float32(center), (478, 1))
    angles = np.linspace(0, 2 * np.pi, len(FACE_OVAL), endpoint=False)
    outline = np.stack([np.sin(angles) * radii[0], -np.cos(angles) * radii[1]], axis=1)
    landmarks[list(FACE_OVAL)] += outline.astype(np.float32)
    return landmarks


def test_face_oval_is_a_closed_outline() -> None:
    """It has every point of the oval once, clockwise in the image."""
    outline = face_oval(ellipse(center=(50, 50), radii=(30, 40)))

    assert (36, 2) == outline.shape
    assert 36 == len(set(FACE_OVAL))
    assert outline[0][1] == outline[:, 1].min()
    assert outline[9][0] == outline[:, 0].max()


@pytest.mark.parametrize("size", [32, 64, 100, 256])
def test_mask_area_matches_the_outline(size: int) -> None:
    """The sum of a mask is its polygon's area at every size, plus the border that OpenCV adds."""
    landmarks = ellipse(center=(49.3, 52.1), radii=(27.4, 35.2))

    mask = face_mask(landmarks, SQUARE, size)

    outline = transform_points(face_oval(landmarks), SQUARE.frame_to_crop(size))
    border = cv2.arcLength(outline, closed=True) / (2 * SUPERSAMPLING)
    assert cv2.contourArea(outline) + border == pytest.approx(mask.sum(), rel=0.005)
    assert np.float32 == mask.dtype
    assert (size, size) == mask.shape
    assert 0 == mask.min()
    assert 1 == mask.max()


def test_mask_position_matches_the_outline() -> None:
    """The center of a mask is its outline's, to a fraction of a pixel: no half-pixel shift."""
    landmarks = ellipse(center=(41.7, 57.2), radii=(20, 30))

    mask = face_mask(landmarks, SQUARE, 50)

    rows, columns = np.mgrid[:50, :50]
    center = np.array([(columns * mask).sum(), (rows * mask).sum()]) / mask.sum()
    expected = transform_points(np.float32([[41.7, 57.2]]), SQUARE.frame_to_crop(50))[0]
    np.testing.assert_allclose(center, expected, atol=0.07)


def test_convex_hull_includes_a_protruding_nose() -> None:
    """The nose of a turned head is outside the oval, but in the mask."""
    landmarks = ellipse(center=(50, 50), radii=(20, 30))
    landmarks[1] = (80, 55)

    mask = face_mask(landmarks, SQUARE, 100)

    assert 1 == mask[55, 78]
    assert 0 == mask[30, 80]
    assert 0 == mask[55, 28]


@pytest.mark.parametrize("yaw", [0, 40, -40])
def test_a_mask_covers_a_turned_face(yaw: float) -> None:
    """The mask covers most of a face at any yaw, and little background."""
    rendered = render_frame(HeadModel.from_person(CAST["ada"]), SceneParams(yaw=yaw), 256)
    with MediaPipeDetector() as detector:
        (face,) = detector.detect(rendered.image)
    frame = FaceAlignment(to_unit=np.array([[1, 0, 0.5], [0, 1, 0.5]]) / 256)

    mask = face_mask(face.landmarks, frame, 256)

    assert (mask * rendered.face_mask).sum() > 0.85 * rendered.face_mask.sum()
    assert (mask * (1 - rendered.head_mask)).sum() < 0.03 * mask.sum()


def test_a_mask_has_a_soft_edge() -> None:
    """A slanted edge has values between 0 and 1."""
    mask = face_mask(ellipse(center=(50, 50), radii=(30, 40)), SQUARE, 64)

    assert ((mask > 0.05) & (mask < 0.95)).sum() > 60


def test_outline_is_clipped_to_the_crop() -> None:
    """A face larger than its square fills it."""
    assert (face_mask(ellipse(center=(50, 50), radii=(400, 400)), SQUARE, 32) == 1).all()


def test_blur_lowers_sharpness() -> None:
    """The more a crop is blurred, the smaller its sharpness; it is 0 for a flat one."""
    crop = np.random.default_rng(7).integers(0, 256, (256, 256, 3), dtype=np.uint8)

    found = [measure_sharpness(cv2.GaussianBlur(crop, (0, 0), sigma)) for sigma in (1, 2, 4, 8)]

    assert sorted(found, reverse=True) == found
    assert 0 == measure_sharpness(np.full((256, 256, 3), 77, dtype=np.uint8))


def test_sharpness_ignores_the_background() -> None:
    """A busy background does not make a blurred face sharp."""
    crop = np.random.default_rng(8).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    crop[40:160, 40:160] = 120

    assert 0 == measure_sharpness(crop)


def test_sharpness_hardly_depends_on_the_size_of_the_crop() -> None:
    """The same image at 200 and at 400 px agrees within a fifth."""
    small = np.random.default_rng(9).integers(0, 256, (25, 25, 3), dtype=np.uint8)
    crops = [cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC) for side in (200, 400)]

    assert measure_sharpness(crops[0]) == pytest.approx(measure_sharpness(crops[1]), rel=0.2)


def test_cut_off_is_the_fraction_outside_the_frame() -> None:
    """0 inside the frame, half with the center on an edge, 1 far away."""
    angles = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    face = np.stack([np.cos(angles) * 30, np.sin(angles) * 40], axis=1)
    frame = np.zeros((100, 120, 3), dtype=np.uint8)
    for center, fraction in (
        ((60, 50), 0.0),
        ((-0.5, 50), 0.5),
        ((119.5, 50), 0.5),
        ((60, 99.5), 0.5),
        ((-0.5, -0.5), 0.75),
        ((300, 50), 1.0),
    ):
        found = measure_cut_off((face + center).astype(np.float32), frame.shape[1::-1])
        assert fraction == pytest.approx(found, abs=1e-6)


@pytest.fixture(scope="module")
def ada() -> tuple[Points, FaceAlignment]:
    """Landmarks and alignment of a synthetic face with an open mouth."""
    with MediaPipeDetector() as detector:
        (face,) = detector.detect(
            render_frame(HeadModel.from_person(CAST["ada"]), SceneParams(jaw=0.8), 256).image
        )
    return face.landmarks, align_face(face.landmarks)


def test_a_mask_without_the_forehead_ends_at_the_brows(ada: tuple[Points, FaceAlignment]) -> None:
    """Brows, eyes, cheeks and chin stay in it; what is above the brows does not."""
    landmarks, alignment = ada
    whole = face_mask(landmarks, alignment, 128)
    lower = face_mask(landmarks, alignment, 128, forehead=False)
    at = np.rint(transform_points(landmarks, alignment.frame_to_crop(128))).astype(int)
    assert np.all(lower <= whole)
    for inside in (105, 334, 33, 263, 1, 17, 123):  # brows, eyes, nose, lip, cheek
        assert lower[at[inside][1], at[inside][0]] > 0.9
    for above in (10, 151, 109, 338):
        assert 0 == lower[at[above][1], at[above][0]]
    assert 0.6 * whole.sum() < lower.sum() < 0.9 * whole.sum()


def test_mouth_mask_is_empty_for_a_closed_mouth(
    ada: tuple[Points, FaceAlignment],
) -> None:
    """The mask is 1 between open lips, 0 on the lips, and empty if they are closed."""
    landmarks, alignment = ada
    opening = mouth_mask(landmarks, alignment, 128)
    at = np.rint(transform_points(landmarks, alignment.frame_to_crop(128))).astype(int)
    center = (at[13] + at[14]) // 2
    assert 1 == opening[center[1], center[0]]
    for lip in (0, 17):
        assert 0 == opening[at[lip][1], at[lip][0]]
    closed = landmarks.copy()
    closed[list(INNER_LIPS)] = closed[13]
    assert 2 > mouth_mask(closed, alignment, 128).sum()


@pytest.fixture
def eyes_and_mouth() -> Points:
    """A face whose eyes and mouth are ovals of 8 by 4 px and of 16 by 8, at known positions."""
    points = np.full((478, 2), 50, np.float32)
    parts = (
        (EYELIDS[0], (30, 40), 8, 4),
        (EYELIDS[1], (70, 40), 8, 4),
        (OUTER_LIPS, (50, 75), 16, 8),
    )
    for indices, (x, y), width, height in parts:
        angles = np.linspace(0, 2 * np.pi, len(indices), endpoint=False)
        points[list(indices)] = np.stack(
            [x + width / 2 * np.cos(angles), y + height / 2 * np.sin(angles)], axis=1
        )
    return points


def test_eyes_mouth_mask_covers_eyes_and_mouth(eyes_and_mouth: Points) -> None:
    """1 in the center of each, 0 on nose and cheeks, in all the area of the enlarged ovals."""
    mask = eyes_mouth_mask(eyes_and_mouth, SQUARE, 100)
    assert (100, 100) == mask.shape
    assert [1, 1, 1] == [mask[40, 30], mask[40, 70], mask[75, 50]]
    assert [0, 0, 0] == [mask[55, 50], mask[60, 25], mask[5, 5]]
    area = np.pi / 4 * OUTLINE_SCALE**2 * (2 * 8 * 4 + 16 * 8)
    assert area == pytest.approx(float(mask.sum()), rel=0.08)


def test_enlarge_outline_keeps_the_center() -> None:
    """Every corner moves away from the center by the same factor."""
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]], np.float32)
    assert np.allclose((square - 1) * OUTLINE_SCALE + 1, enlarge_outline(square))


def test_masks_are_chosen_by_name() -> None:
    """The oval, the predicted mask, or their product; a model without a mask is an error."""
    oval, learned = np.full((4, 4), 0.5, np.float32), np.full((4, 4), 0.4, np.float32)
    assert ["visible", "both", "oval", "learned"] == list(MASK_MODES)
    np.testing.assert_array_equal(oval, MASK_MODES["oval"](oval, learned))
    np.testing.assert_array_equal(learned, MASK_MODES["learned"](oval, learned))
    np.testing.assert_allclose(0.2, MASK_MODES["both"](oval, learned))
    np.testing.assert_array_equal(oval, MASK_MODES["both"](oval, None))
    np.testing.assert_allclose(0.2, MASK_MODES["visible"](oval, learned))
    with pytest.raises(ConfigurationError, match="this model predicts no mask"):
        MASK_MODES["learned"](oval, None)
