"""Face alignment: the best similarity, consistent at every crop size, and lossless both ways."""

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from faceswap_cli.core.types import Image, Points
from faceswap_cli.faces.alignment import (
    HEAD_CENTER_SHIFT,
    HEAD_SCALE,
    FaceAlignment,
    align_face,
    build_template,
    fit_similarity,
    transform_points,
)
from faceswap_cli.faces.detectors.mediapipe import MediaPipeDetector
from faceswap_cli.faces.masks import face_oval
from faceswap_cli.synthetic import CAST, HeadModel, SceneParams, render_frame

Numbers = npt.NDArray[np.float64]


def rotated_square(*, angle: float, side: float, center: tuple[float, float]) -> FaceAlignment:
    """Return a square of `side` px around `center`, rotated by `angle` degrees."""
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    linear = np.array([[cosine, sine], [-sine, cosine]]) / side
    return FaceAlignment(to_unit=np.column_stack([linear, [0.5, 0.5] - linear @ center]))


def draw_dots(size: int, points: Points, *, sigma: float) -> Image:
    """Return a black image with a soft white dot at each of the points."""
    rows, columns = np.mgrid[:size, :size]
    light = sum(
        255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)) for x, y in points
    )
    return np.repeat(np.uint8(np.round(light))[..., None], 3, axis=2)


def brightness_center(image: Image, near: npt.NDArray[Any], radius: int) -> Numbers:
    """Return the center of brightness around a point, (x, y) px."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    close = np.hypot(columns - near[0], rows - near[1]) <= radius
    weight = image[..., 0].astype(np.float64) * close
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


def test_fit_similarity_recovers_the_transform() -> None:
    """Points moved by a known similarity give back exactly that."""
    points = np.random.default_rng(1).uniform(0, 500, (25, 2)).astype(np.float32)
    known = rotated_square(angle=-31, side=170, center=(240, 310)).to_unit

    found = fit_similarity(points, transform_points(points, known))

    np.testing.assert_allclose(found, known, atol=1e-6)


def test_fit_similarity_is_optimal() -> None:
    """Any small change of rotation, scale or translation gives a larger sum of squares."""
    rng = np.random.default_rng(2)
    points = rng.normal(0, 1, (12, 2)).astype(np.float32)
    target = rng.normal(0, 1, (12, 2)).astype(np.float32)

    def squared_error(matrix: Numbers) -> float:
        moved = points.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
        return float(((moved - target) ** 2).sum())

    best = fit_similarity(points, target)
    step = 1e-3
    scale_and_rotation = [np.array([[1, 0], [0, 1]]), np.array([[0, -1], [1, 0]])]
    changes = [np.column_stack([linear, [0, 0]]) for linear in scale_and_rotation]
    changes += [np.array([[0, 0, 1], [0, 0, 0]]), np.array([[0, 0, 0], [0, 0, 1]])]
    for change in changes:
        assert squared_error(best) < squared_error(best + step * change)
        assert squared_error(best) < squared_error(best - step * change)


def test_fit_similarity_never_reflects() -> None:
    """Mirrored targets get the best rotation, not a reflection."""
    points = np.random.default_rng(3).uniform(0, 1, (10, 2)).astype(np.float32)

    assert np.linalg.det(fit_similarity(points, points * np.float32([-1, 1]))[:, :2]) > 0


def test_fit_similarity_rejects_coincident_points() -> None:
    """Equal points have no scale: an error, not a division by zero."""
    with pytest.raises(ValueError, match="not all the same"):
        fit_similarity(np.ones((5, 2), np.float32), np.zeros((5, 2), np.float32))


def test_template_is_upright_and_symmetric() -> None:
    """Its points are mirror images of each other and inside the square."""
    indices, positions = build_template()

    assert len(set(indices)) == len(indices) == len(positions)
    mirrored = positions * np.float32([-1, 1]) + np.float32([1, 0])
    distance = np.linalg.norm(positions[:, None] - mirrored[None], axis=2)
    assert distance.min(axis=1).max() < 1e-6
    assert positions.min() > 0.1
    assert positions.max() < 0.9


@pytest.mark.parametrize(("angle", "side"), [(0, 200), (25, 90), (-140, 333)])
def test_alignment_follows_the_head(angle: float, side: float) -> None:
    """Landmarks moved by a similarity have the same positions in the unit square."""
    rng = np.random.default_rng(4)
    rest = rng.uniform(0, 100, (478, 2)).astype(np.float32)
    moved = transform_points(
        rest, rotated_square(angle=angle, side=side / 1e4, center=(50, 50)).to_unit
    )

    before, after = align_face(rest), align_face(moved)

    np.testing.assert_allclose(
        transform_points(moved, after.to_unit), transform_points(rest, before.to_unit), atol=1e-4
    )


@pytest.mark.parametrize("size", [16, 64, 100, 256, 512])
@pytest.mark.parametrize("side", [37.0, 128.0, 300.5])
def test_crop_agrees_with_frame_to_crop(size: int, side: float) -> None:
    """A dot of the frame is where the matrix says in a crop of any size, to a tenth of a pixel."""
    alignment = rotated_square(angle=20, side=side, center=(251.3, 247.6))
    pixel = max(1.0, side / size)
    dots = np.float32([[0.3, 0.35], [0.7, 0.3], [0.5, 0.72]])
    points = transform_points(dots, cv2.invertAffineTransform(alignment.to_unit))
    # Wide enough to be sampled well in frame and crop, narrow enough not to touch the next.
    frame = draw_dots(500, points, sigma=min(1.3 * pixel, side / 12))

    crop = alignment.crop(frame, size)

    for x, y in transform_points(points, alignment.frame_to_crop(size)):
        found = brightness_center(crop, np.array([x, y]), radius=max(2, size // 8))
        np.testing.assert_allclose(found, (x, y), atol=0.1)


@pytest.mark.parametrize("size", [64, 200])
def test_crop_to_frame_inverts_frame_to_crop(size: int) -> None:
    """A point mapped to the crop and back is unchanged, at any size."""
    alignment = rotated_square(angle=-40, side=123, center=(310, 99))
    points = np.random.default_rng(5).uniform(0, 600, (20, 2)).astype(np.float32)

    back = transform_points(
        transform_points(points, alignment.frame_to_crop(size)), alignment.crop_to_frame(size)
    )

    np.testing.assert_allclose(back, points, atol=1e-3)


def test_center_crop_is_the_crop_without_its_margin() -> None:
    """Half the square at half the size has the same pixels."""
    frame = np.random.default_rng(6).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    alignment = rotated_square(angle=12, side=180, center=(150, 140))

    whole = alignment.crop(frame, 128)
    center = alignment.center_crop(0.5).crop(frame, 64)

    assert np.abs(whole[32:96, 32:96].astype(int) - center).max() <= 1
    assert alignment.center_crop(0.5).side_px == pytest.approx(90)
    np.testing.assert_allclose(
        alignment.center_crop(0.5).corners().mean(axis=0),
        alignment.corners().mean(axis=0),
        atol=1e-3,
    )


def test_downscaling_does_not_alias() -> None:
    """A fine checkerboard becomes uniform gray, not a coarse pattern."""
    frame = np.indices((800, 800)).sum(axis=0)[..., None].repeat(3, axis=2) % 2 * 255

    crop = rotated_square(angle=7, side=700, center=(400, 400)).crop(frame.astype(np.uint8), 96)

    assert np.abs(crop.astype(int) - 127.5).max() < 12


def test_crop_replicates_the_frame_border() -> None:
    """Beyond the frame a crop repeats the nearest pixels, instead of black."""
    frame = np.full((100, 100, 3), 90, dtype=np.uint8)

    assert (rotated_square(angle=0, side=120, center=(5, 50)).crop(frame, 64) == 90).all()


def test_aligned_landmarks_match_the_template() -> None:
    """On a frontal synthetic face no point of the template is far off or swapped."""
    indices, positions = build_template()
    with MediaPipeDetector() as detector:
        (face,) = detector.detect(
            render_frame(HeadModel.from_person(CAST["ada"]), SceneParams(), 256).image
        )

    found = transform_points(face.landmarks[indices], align_face(face.landmarks).to_unit)

    assert np.linalg.norm(found - positions, axis=1).max() < 0.05


@pytest.mark.parametrize("name", sorted(CAST)[:2])
def test_center_crop_contains_the_whole_face(name: str) -> None:
    """A synthetic face, mouth wide open and head turned, is in the central 0.8 of the crop."""
    scenes = [
        SceneParams(jaw=1),
        SceneParams(yaw=30, jaw=1),
        SceneParams(yaw=-30, pitch=10),
        SceneParams(pitch=-15),
    ]
    head = HeadModel.from_person(CAST[name])
    with MediaPipeDetector() as detector:
        for scene in scenes:
            (face,) = detector.detect(render_frame(head, scene, 256).image)
            center = align_face(face.landmarks).center_crop(0.8)
            outline = transform_points(face_oval(face.landmarks), center.to_unit)
            assert outline.min() > 0
            assert outline.max() < 1


def test_shrink_to_face_inverts_expand_to_head() -> None:
    """The square of a head contains that of its face, and gives it back exactly."""
    linear = 0.004 * np.array([[0.8, -0.6], [0.6, 0.8]])
    face = FaceAlignment(to_unit=np.column_stack([linear, [0.2, -0.3]]))

    head = face.expand_to_head()

    np.testing.assert_allclose(head.shrink_to_face().to_unit, face.to_unit, atol=1e-12)
    assert HEAD_SCALE * face.side_px == pytest.approx(head.side_px)
    inside = transform_points(face.corners(), head.to_unit)
    assert ((inside > 0) & (inside < 1)).all()
    # The center of a head is above that of its face, at any rotation.
    x, y = transform_points(head.corners().mean(axis=0, keepdims=True), face.to_unit)[0]
    assert (0.5, 0.5 - HEAD_CENTER_SHIFT) == (
        pytest.approx(x, abs=1e-5),
        pytest.approx(y, abs=1e-5),
    )


def test_face_from_head_crop_matches_face_crop() -> None:
    """Cropped from the head's crop, a face is the same as from the frame, a little softer."""
    ramp = np.linspace(0, 250, 400)
    frame = np.uint8(np.stack(np.meshgrid(ramp, ramp), axis=-1))
    frame = np.dstack([frame, frame[..., 0] // 2])
    face = FaceAlignment(to_unit=np.array([[0.008, 0.002, -1.1], [-0.002, 0.008, -0.8]]))

    crop = face.expand_to_head().crop(frame, 300)
    again = face.relative_to(face.expand_to_head(), 300).crop(crop, 128)

    difference = np.abs(again.astype(int) - face.crop(frame, 128))
    assert difference.max() <= 2
