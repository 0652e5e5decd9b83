"""Smoothed tracks: less jitter, no lag, nothing carried across cuts."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest

from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.core.types import Matrix, Points
from faceswap_cli.faces.alignment import (
    FaceAlignment,
    align_face,
    build_template,
    transform_points,
)
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.faces.track_smoothing import (
    SMOOTHING_RADIUS,
    Detection,
    FrameTracks,
    SmoothedFace,
    alignment_from_params,
    alignment_to_params,
    interpolate_face,
    smooth_tracks,
)
from faceswap_cli.faces.tracker import match_tracks
from faceswap_cli.faces.types import Face
from faceswap_cli.synthetic import CAST, HeadModel, SceneParams, render_frame

Detected = list[tuple[int, list[Face]]]
MAX_MISSED = SMOOTHING_RADIUS - 1


def mesh(seed: int = 0) -> Points:
    """Return landmarks (478, 2): the template's at their positions, 100 px wide, others random."""
    points = np.random.default_rng(seed).uniform(-40, 40, (478, 2)).astype(np.float32)
    indices, target = build_template()
    points[indices] = (target - 0.5) * 150
    return points


def face_at(motion: Matrix, *, noise: float = 0.0, seed: int = 0) -> Face:
    """Return a face with the mesh moved by a motion as landmarks, with noise of `noise` px."""
    rng = np.random.default_rng(seed)
    points = transform_points(mesh(), motion) + rng.normal(0, noise, (478, 2)).astype(np.float32)
    return Face(
        box=np.concatenate([points.min(axis=0), points.max(axis=0)]),
        landmarks=points,
        score=1,
        blendshapes=(0.0,) * 52,
        pose=(0, 0, 0),
    )


def motion(k: float, *, x: float = 0.0, y: float = 0.0) -> Matrix:
    """Return a uniform motion at time k: rotating, growing, moving."""
    angle, scale = np.radians(0.5 * k), 1 + 0.004 * k
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cos, -sin, 200 + 2.5 * k + x], [sin, cos, 150 - 0.8 * k + y]])


def smooth(
    detected: Detected, *, cuts: Collection[int] = ()
) -> list[tuple[int, list[SmoothedFace]]]:
    """Return the smoothed faces of every frame; `cuts` are the first frames of shots."""
    frames: list[FrameTracks] = []
    last = FrameTracks.empty()
    for index, faces in detected:
        active = {} if index in cuts else last.active_tracks(index, max_missed=MAX_MISSED)
        tracks, count = match_tracks(faces, active, track_count=last.track_count)
        detections = {
            track: Detection(frame_index=index, face=face)
            for track, face in zip(tracks, faces, strict=True)
        }
        last = FrameTracks(
            frame_index=index,
            shot=last.shot + (index in cuts),
            track_count=count,
            last_seen=active | detections,
        )
        frames.append(last)
    return [(one.frame_index, smooth_tracks(frames, one)) for one in frames]


def to_params(smoothed: Sequence[tuple[int, list[SmoothedFace]]]) -> np.ndarray:
    """Return the alignment parameters (N, 4) of the only face of every frame."""
    return np.array([alignment_to_params(face.alignment) for _, [face] in smoothed])


def make_clip(
    count: int, *, noise: float = 0.0, at: Callable[[float], Matrix] = motion, seed: int = 0
) -> Detected:
    """Return frames with one face in motion."""
    return [(k, [face_at(at(k), noise=noise, seed=seed + k)]) for k in range(count)]


def test_alignment_params_round_trip() -> None:
    """An alignment is recovered from its parameters, at any rotation."""
    for k in (0, 40, 200, -300):
        alignment = align_face(face_at(motion(k)).landmarks)
        again = alignment_from_params(alignment_to_params(alignment))
        np.testing.assert_allclose(again.to_unit, alignment.to_unit, rtol=1e-4, atol=1e-6)


def test_smoothing_preserves_constant_acceleration() -> None:
    """Without jitter nothing changes, not even at the ends of the track: there is no lag."""
    raw = make_clip(25)

    smoothed = smooth(raw)

    assert list(range(25)) == [index for index, _ in smoothed]
    truth = np.array([alignment_to_params(align_face(faces[0].landmarks)) for _, faces in raw])
    assert np.abs(to_params(smoothed) - truth)[:, 2:].max() < 0.02
    assert np.abs(to_params(smoothed) - truth)[:, :2].max() < 1e-3


def test_smoothing_preserves_nodding() -> None:
    """Swinging once a second by 20 px either way, it stays within half a pixel of its path."""
    swing = make_clip(60, at=lambda k: motion(k, y=20 * np.sin(2 * np.pi * k / 25)))

    truth = np.array([alignment_to_params(align_face(faces[0].landmarks)) for _, faces in swing])

    assert np.abs(to_params(smooth(swing)) - truth)[:, 2:].max() < 0.5


def test_smoothing_halves_jitter() -> None:
    """Detected in noisy frames of a known motion, a face jitters half as much after smoothing."""
    image = render_frame(HeadModel.from_person(CAST["bo"]), SceneParams(yaw=8), 256).image
    rng = np.random.default_rng(1)
    paths = [motion(k, x=-150, y=-60) for k in range(30)]
    with LiteRTDetector() as detector:
        faces: list[Face] = []
        detected = []
        for k, path in enumerate(paths):
            moved = cv2.warpAffine(image, path, (420, 360), borderMode=cv2.BORDER_REPLICATE)
            noisy = np.clip(moved + rng.normal(0, 6, moved.shape), 0, 255).astype(np.uint8)
            faces = (
                detector.track(ArrayImage(image=noisy), faces) if faces else detector.detect(noisy)
            )
            detected.append((k, faces))

    raw = np.array([alignment_to_params(align_face(faces[0].landmarks)) for _, faces in detected])
    residuals = [_residual(params, paths) for params in (raw, to_params(smooth(detected)))]
    before, after = (np.diff(residual, axis=0).std(axis=0) for residual in residuals)
    assert (after < 0.5 * before).all(), after / before
    assert np.abs(residuals[1].mean(axis=0) - residuals[0].mean(axis=0))[2:].max() < 0.5


def _residual(params: np.ndarray, paths: Sequence[Matrix]) -> np.ndarray:
    """Return alignment parameters (N, 4) less the known motion."""
    rows = []
    for (log_side, angle, x, y), path in zip(params, paths, strict=True):
        scale, rotation = np.hypot(path[0, 0], path[1, 0]), np.arctan2(path[1, 0], path[0, 0])
        (position,) = transform_points(np.float32([[x, y]]), cv2.invertAffineTransform(path))
        rows.append([log_side - np.log(scale), angle - rotation, *position])
    return np.array(rows)


@pytest.mark.parametrize("cut", [9, 14])
def test_smoothing_does_not_cross_a_cut(cut: int) -> None:
    """Each shot is smoothed as if alone, though the face stays at its position."""
    first, second = make_clip(cut, noise=1), make_clip(14, noise=1, seed=50)
    second = [(cut + k, faces) for k, faces in second]

    together = smooth([*first, *second], cuts=[cut])

    separately = [*smooth(first), *smooth(second)]
    for (_, [one]), (_, [two]) in zip(together, separately, strict=True):
        np.testing.assert_array_equal(one.alignment.to_unit, two.alignment.to_unit)
    tracks = [face.track for _, [face] in together]
    assert [0] * cut + [1] * 14 == tracks


def test_distant_face_is_a_new_track() -> None:
    """Without a known cut, a face that jumps starts a new track."""
    jump = [*make_clip(8), *((8 + k, [face_at(motion(k, x=400))]) for k in range(8))]

    assert [0] * 8 + [1] * 8 == [face.track for _, [face] in smooth(jump)]


def test_two_faces_are_two_tracks() -> None:
    """In any order of detection, and while one is missing."""
    left, right = make_clip(20), make_clip(20, at=lambda k: motion(k, x=300))
    both = [
        (k, [*one, *two][:: 1 if k % 2 else -1]) if not 8 <= k < 8 + MAX_MISSED else (k, one)
        for (k, one), (_, two) in zip(left, right, strict=True)
    ]

    smoothed = smooth(both)

    for k, faces in smoothed:
        sides = {face.track: alignment_to_params(face.alignment)[2] > 350 for face in faces}
        assert 2 == len(faces) == len(set(sides.values()))
        interpolated = [face for face in faces if face.is_interpolated]
        assert (8 <= k < 8 + MAX_MISSED) == len(interpolated)
        assert all(sides[face.track] for face in interpolated)
    assert {0, 1} == {face.track for _, faces in smoothed for face in faces}


def test_short_gap_is_interpolated() -> None:
    """A face missed in a few frames of uniform motion is filled in where it was, and marked."""
    whole = make_clip(24)
    missed = [(k, [] if 9 <= k < 9 + MAX_MISSED else faces) for k, faces in whole]

    smoothed = smooth(missed)

    truth = np.array([alignment_to_params(align_face(faces[0].landmarks)) for _, faces in whole])
    assert np.abs(to_params(smoothed) - truth)[:, 2:].max() < 0.1
    assert list(range(9, 9 + MAX_MISSED)) == [k for k, [face] in smoothed if face.is_interpolated]
    for k, [face] in smoothed[9 : 9 + MAX_MISSED]:
        distances = np.linalg.norm(face.face.landmarks - whole[k][1][0].landmarks, axis=1)
        assert distances.max() < 0.3
        assert 0 == face.face.score


def test_gap_across_a_cut_is_not_interpolated() -> None:
    """A face missed at the end of a shot is not filled in from the next one."""
    gap = [(k, [] if 9 <= k < 12 else faces) for k, faces in make_clip(20)]

    smoothed = smooth(gap, cuts=[11])

    assert [] == [k for k, faces in smoothed for face in faces if face.is_interpolated]


def test_interpolate_face() -> None:
    """Landmarks, blendshapes and pose are interpolated; angles take the short way."""
    one, two = face_at(motion(0)), face_at(motion(4))
    one, two = replace(one, pose=(0, -10, 170)), replace(two, pose=(20, 10, -170))
    two = replace(two, blendshapes=(0.5,) * 52)

    middle = interpolate_face(one, two, 0.25)

    np.testing.assert_allclose(
        middle.landmarks, 0.75 * one.landmarks + 0.25 * two.landmarks, atol=1e-3
    )
    assert pytest.approx((5, -5, 175)) == middle.pose
    assert pytest.approx((0.125,) * 52) == middle.blendshapes


def test_long_absence_starts_a_new_track() -> None:
    """A face missed in more than `MAX_MISSED` frames is not taken for the same."""
    gone = make_clip(20 + MAX_MISSED)
    gone = [(k, [] if 6 <= k <= 6 + MAX_MISSED else faces) for k, faces in gone]

    smoothed = smooth(gone)

    assert [len(faces) for _, faces in gone] == [len(faces) for _, faces in smoothed]
    assert {0, 1} == {face.track for _, faces in smoothed for face in faces}


@pytest.mark.parametrize("count", [0, 1, 2, 3, SMOOTHING_RADIUS, 2 * SMOOTHING_RADIUS + 1])
def test_short_clips_are_smoothed(count: int) -> None:
    """However few the frames, each comes out once, in order, with an alignment."""
    smoothed = smooth(make_clip(count, noise=0.5))

    assert list(range(count)) == [index for index, _ in smoothed]
    assert all(isinstance(face.alignment, FaceAlignment) for _, [face] in smoothed)
