"""Faces held steady: less jitter, no lag, nothing carried from one shot into another."""

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

Looked = list[tuple[int, list[Face]]]
MAX_MISSED = SMOOTHING_RADIUS - 1


def mesh(seed: int = 0) -> Points:
    """Landmarks (478, 2) that stand on the template, about 100 px wide, with some others."""
    points = np.random.default_rng(seed).uniform(-40, 40, (478, 2)).astype(np.float32)
    indices, target = build_template()
    points[indices] = (target - 0.5) * 150
    return points


def face_at(motion: Matrix, *, noise: float = 0.0, seed: int = 0) -> Face:
    """A face whose landmarks are the mesh carried by a motion, with noise of so many px."""
    chance = np.random.default_rng(seed)
    points = transform_points(mesh(), motion) + chance.normal(0, noise, (478, 2)).astype(np.float32)
    return Face(
        box=np.concatenate([points.min(axis=0), points.max(axis=0)]),
        landmarks=points,
        score=1,
        blendshapes=(0.0,) * 52,
        pose=(0, 0, 0),
    )


def motion(k: float, *, x: float = 0.0, y: float = 0.0) -> Matrix:
    """Steady motion at time k: turning, growing, moving."""
    turn, scale = np.radians(0.5 * k), 1 + 0.004 * k
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    return np.array([[cos, -sin, 200 + 2.5 * k + x], [sin, cos, 150 - 0.8 * k + y]])


def smooth(looked: Looked, *, cuts: Collection[int] = ()) -> list[tuple[int, list[SmoothedFace]]]:
    """The frames held steady; the cuts are the first frames of a shot."""
    scenes: list[FrameTracks] = []
    scene = FrameTracks.empty()
    for number, faces in looked:
        known = {} if number in cuts else scene.active_tracks(number, max_missed=MAX_MISSED)
        tracks, count = match_tracks(faces, known, track_count=scene.track_count)
        seen = {
            track: Detection(frame_index=number, face=face)
            for track, face in zip(tracks, faces, strict=True)
        }
        shot = scene.shot + (number in cuts)
        scene = FrameTracks(
            frame_index=number, shot=shot, track_count=count, last_seen=known | seen
        )
        scenes.append(scene)
    return [(scene.frame_index, smooth_tracks(scenes, scene)) for scene in scenes]


def centers(held: Sequence[tuple[int, list[SmoothedFace]]]) -> np.ndarray:
    """The places of the only face of every frame (N, 4)."""
    return np.array([alignment_to_params(face.alignment) for _, [face] in held])


def film(
    count: int, *, noise: float = 0.0, at: Callable[[float], Matrix] = motion, seed: int = 0
) -> Looked:
    """Frames with one face in motion."""
    return [(k, [face_at(at(k), noise=noise, seed=seed + k)]) for k in range(count)]


def test_alignment_params_round_trip() -> None:
    """An alignment is its places, whatever the turn."""
    for k in (0, 40, 200, -300):
        alignment = align_face(face_at(motion(k)).landmarks)
        again = alignment_from_params(alignment_to_params(alignment))
        np.testing.assert_allclose(again.to_unit, alignment.to_unit, rtol=1e-4, atol=1e-6)


def test_smoothing_preserves_constant_acceleration() -> None:
    """Without jitter nothing changes, at the ends of the track neither: there is no lag."""
    raw = film(25)

    held = smooth(raw)

    assert list(range(25)) == [number for number, _ in held]
    truth = np.array([alignment_to_params(align_face(faces[0].landmarks)) for _, faces in raw])
    assert np.abs(centers(held) - truth)[:, 2:].max() < 0.02
    assert np.abs(centers(held) - truth)[:, :2].max() < 1e-3


def test_smoothing_preserves_nodding() -> None:
    """Swinging once a second by 20 px either way, it stays within half a pixel of its path."""
    swing = film(60, at=lambda k: motion(k, y=20 * np.sin(2 * np.pi * k / 25)))

    truth = np.array([alignment_to_params(align_face(faces[0].landmarks)) for _, faces in swing])

    assert np.abs(centers(smooth(swing)) - truth)[:, 2:].max() < 0.5


def test_smoothing_halves_jitter() -> None:
    """Of a drawn person moved in a known way, filmed with noise, and found frame by frame."""
    picture = render_frame(HeadModel.from_person(CAST["bo"]), SceneParams(yaw=8), 256).image
    chance = np.random.default_rng(1)
    paths = [motion(k, x=-150, y=-60) for k in range(30)]
    with LiteRTDetector() as detector:
        faces: list[Face] = []
        looked = []
        for k, path in enumerate(paths):
            moved = cv2.warpAffine(picture, path, (420, 360), borderMode=cv2.BORDER_REPLICATE)
            noisy = np.clip(moved + chance.normal(0, 6, moved.shape), 0, 255).astype(np.uint8)
            faces = (
                detector.track(ArrayImage(image=noisy), faces) if faces else detector.detect(noisy)
            )
            looked.append((k, faces))

    raw = np.array([alignment_to_params(align_face(faces[0].landmarks)) for _, faces in looked])
    residuals = [_residual(where, paths) for where in (raw, centers(smooth(looked)))]
    before, after = (np.diff(residual, axis=0).std(axis=0) for residual in residuals)
    assert (after < 0.5 * before).all(), after / before
    assert np.abs(residuals[1].mean(axis=0) - residuals[0].mean(axis=0))[2:].max() < 0.5


def _residual(where: np.ndarray, paths: Sequence[Matrix]) -> np.ndarray:
    """Where a face lies, less the motion it was given (N, 4)."""
    rows = []
    for (log_side, angle, x, y), path in zip(where, paths, strict=True):
        scale, turn = np.hypot(path[0, 0], path[1, 0]), np.arctan2(path[1, 0], path[0, 0])
        (home,) = transform_points(np.float32([[x, y]]), cv2.invertAffineTransform(path))
        rows.append([log_side - np.log(scale), angle - turn, *home])
    return np.array(rows)


@pytest.mark.parametrize("where", [9, 14])
def test_smoothing_does_not_cross_a_cut(where: int) -> None:
    """Each shot comes out as if the other had never been, though the face stays in place."""
    first, second = film(where, noise=1), film(14, noise=1, seed=50)
    second = [(where + k, faces) for k, faces in second]

    together = smooth([*first, *second], cuts=[where])

    apart = [*smooth(first), *smooth(second)]
    for (_, [one]), (_, [two]) in zip(together, apart, strict=True):
        np.testing.assert_array_equal(one.alignment.to_unit, two.alignment.to_unit)
    tracks = [face.track for _, [face] in together]
    assert [0] * where + [1] * 14 == tracks


def test_distant_face_is_a_new_track() -> None:
    """Without a word about a cut, a face that jumps begins a new track."""
    jump = [*film(8), *((8 + k, [face_at(motion(k, x=400))]) for k in range(8))]

    assert [0] * 8 + [1] * 8 == [face.track for _, [face] in smooth(jump)]


def test_two_faces_are_two_tracks() -> None:
    """In whatever order they come, and when one is missing for a while."""
    left, right = film(20), film(20, at=lambda k: motion(k, x=300))
    both = [
        (k, [*one, *two][:: 1 if k % 2 else -1]) if not 8 <= k < 8 + MAX_MISSED else (k, one)
        for (k, one), (_, two) in zip(left, right, strict=True)
    ]

    held = smooth(both)

    for k, faces in held:
        sides = {face.track: alignment_to_params(face.alignment)[2] > 350 for face in faces}
        assert 2 == len(faces) == len(set(sides.values()))
        filled = [face for face in faces if face.is_interpolated]
        assert (8 <= k < 8 + MAX_MISSED) == len(filled)
        assert all(sides[face.track] for face in filled)
    assert {0, 1} == {face.track for _, faces in held for face in faces}


def test_short_gap_is_interpolated() -> None:
    """A face missed in a few frames of steady motion is put where it was, and marked."""
    whole = film(24)
    missed = [(k, [] if 9 <= k < 9 + MAX_MISSED else faces) for k, faces in whole]

    held = smooth(missed)

    truth = np.array([alignment_to_params(align_face(faces[0].landmarks)) for _, faces in whole])
    assert np.abs(centers(held) - truth)[:, 2:].max() < 0.1
    assert list(range(9, 9 + MAX_MISSED)) == [k for k, [face] in held if face.is_interpolated]
    for k, [face] in held[9 : 9 + MAX_MISSED]:
        apart = np.linalg.norm(face.face.landmarks - whole[k][1][0].landmarks, axis=1)
        assert apart.max() < 0.3
        assert 0 == face.face.score


def test_gap_across_a_cut_is_not_interpolated() -> None:
    """Who is missed at the end of a shot is not put there because of the next one."""
    gap = [(k, [] if 9 <= k < 12 else faces) for k, faces in film(20)]

    held = smooth(gap, cuts=[11])

    assert [] == [k for k, faces in held for face in faces if face.is_interpolated]


def test_interpolate_face() -> None:
    """Points, expression and pose lie between; angles turn the short way."""
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
    """After more than `PATIENCE` frames nobody says it is the same."""
    gone = film(20 + MAX_MISSED)
    gone = [(k, [] if 6 <= k <= 6 + MAX_MISSED else faces) for k, faces in gone]

    held = smooth(gone)

    assert [len(faces) for _, faces in gone] == [len(faces) for _, faces in held]
    assert {0, 1} == {face.track for _, faces in held for face in faces}


@pytest.mark.parametrize("count", [0, 1, 2, 3, SMOOTHING_RADIUS, 2 * SMOOTHING_RADIUS + 1])
def test_short_clips_are_smoothed(count: int) -> None:
    """However few the frames are, each comes out once, in order, as an alignment."""
    held = smooth(film(count, noise=0.5))

    assert list(range(count)) == [number for number, _ in held]
    assert all(isinstance(face.alignment, FaceAlignment) for _, [face] in held)
