"""The benchmark's trials, baselines and scores."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from faceswap_cli import synthetic
from faceswap_cli.compositing.compositor import Compositor
from faceswap_cli.core import image_io
from faceswap_cli.evaluation import trials
from faceswap_cli.evaluation.baselines import (
    JAW_OPEN,
    MeanFaceBaseline,
    NearestPoseBaseline,
    Oracle,
    UnswappedBaseline,
    fit_affine,
)
from faceswap_cli.evaluation.clips import render_true_swap
from faceswap_cli.evaluation.metrics.reconstruction import ReconstructionScores, mean_squared_error
from faceswap_cli.evaluation.trials import (
    TRIALS,
    make_test_scenario,
    make_training_performance,
    select_identities,
)
from faceswap_cli.faces.alignment import FaceAlignment, transform_points
from faceswap_cli.faces.dataset import FaceRecord, FaceSet

SIDE = 96


def record(*, yaw: float = 0.0, jaw: float = 0.0, file: str = "0.png") -> FaceRecord:
    """Return a face in the middle of a frame of 2 SIDE px; its crop is the whole frame."""
    angle = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    outline = np.stack([np.cos(angle) * 0.5 * SIDE, np.sin(angle) * 0.6 * SIDE], axis=1) + SIDE
    blendshapes = np.zeros(52)
    blendshapes[JAW_OPEN] = jaw
    scale = 1 / (2 * SIDE)
    return FaceRecord(
        file=file,
        frame=0,
        time=Fraction(0),
        alignment=FaceAlignment(to_unit=np.array([[1, 0, 0.5], [0, 1, 0.5]]) * scale),
        landmarks=outline.astype(np.float32),
        score=1.0,
        sharpness=1.0,
        pose=(yaw, 0.0, 0.0),
        blendshapes=tuple(blendshapes.tolist()),
    )


def flat_image(level: int) -> np.ndarray:
    """Return a frame of one level."""
    return np.full((2 * SIDE, 2 * SIDE, 3), level, dtype=np.uint8)


# --- trials -------------------------------------------------------------------------------------


def test_each_trial_has_its_own_difficulty() -> None:
    """Small, profile, hand, fast, cuts: each in its own frames only."""
    scenario = make_test_scenario(0, frames=24)
    by_trial = {
        name: [
            scene
            for scene, label in zip(scenario.performance.scenes, scenario.labels, strict=True)
            if label == name
        ]
        for name in TRIALS
    }
    assert all(len(scenes) == 24 for scenes in by_trial.values())
    assert {"hand"} == {
        name for name, scenes in by_trial.items() if any(scene.hand for scene in scenes)
    }
    assert {"small"} == {
        name for name, scenes in by_trial.items() if min(scene.scale for scene in scenes) < 0.5
    }
    assert 55 < max(abs(scene.yaw) for scene in by_trial["profile"])
    assert {"cuts"} == {
        name for name, scenes in by_trial.items() if len({one.background for one in scenes}) > 1
    }
    speed = {
        name: np.abs(np.diff([scene.yaw for scene in scenes])).mean()
        for name, scenes in by_trial.items()
    }
    assert speed["fast"] > 2 * speed["talking"]
    lights = {
        name: np.std([scene.light[0] for scene in scenes]) for name, scenes in by_trial.items()
    }
    assert lights["light"] > 5 * lights["talking"]


def test_clips_are_deterministic_and_trials_are_not_training_data() -> None:
    """People and performances are the same in every run; training and trials share no pose."""
    assert make_test_scenario(1, frames=6) == make_test_scenario(1, frames=6)
    assert select_identities(7) == select_identities(7)
    assert list(select_identities(3)) == list(trials.IDENTITIES[:3])
    training = {
        (round(scene.yaw, 6), round(scene.pitch, 6))
        for index in range(3)
        for scene in make_training_performance(index, seconds=3).scenes
    }
    test = {
        (round(scene.yaw, 6), round(scene.pitch, 6))
        for index in range(3)
        for scene in make_test_scenario(index, frames=6).performance.scenes
    }
    assert len(test) > 100
    assert not training & test


# --- baselines ----------------------------------------------------------------------------------


def test_affine_map_is_recovered() -> None:
    """Transformed points give the transform."""
    points = np.random.default_rng(2).uniform(0, 90, (20, 2)).astype(np.float32)
    matrix = np.array([[1.1, 0.2, 5.0], [-0.3, 0.9, -7.0]])
    np.testing.assert_allclose(
        fit_affine(points, transform_points(points, matrix)), matrix, atol=1e-4
    )


def test_nearest_pose_is_pasted_inside_the_face(tmp_path: Path) -> None:
    """The crop has the nearest yaw and jaw; pixels outside the face do not change."""
    levels = {(-20.0, 0.0): 60, (20.0, 0.0): 120, (20.0, 0.9): 180}
    records = []
    for (yaw, jaw), level in levels.items():
        records.append(record(yaw=yaw, jaw=jaw, file=f"{level}.png"))
        image_io.write_png(tmp_path / f"{level}.png", flat_image(level))
    faces = FaceSet(name="b", folder=tmp_path, records=records)
    baseline = NearestPoseBaseline(faces=faces, compositor=Compositor(color_transfer=None))
    frame = flat_image(10)
    swapped = baseline(frame, record(yaw=16, jaw=0.1), frame)
    assert 120 == swapped[SIDE, SIDE, 0]
    assert (swapped[:, :20] == 10).all()
    assert (UnswappedBaseline()(frame, records[0], frame) == frame).all()


def test_mean_face_is_the_mean_of_the_crops(tmp_path: Path) -> None:
    """Two levels give their mean."""
    for level in (40, 60):
        image_io.write_png(tmp_path / f"{level}.png", flat_image(level))
    faces = FaceSet(
        name="b", folder=tmp_path, records=[record(file="40.png"), record(file="60.png")]
    )
    assert 50 == MeanFaceBaseline.from_faces(faces).face[0, 0, 0]


def test_upper_bound_grows_with_the_network_size() -> None:
    """The true swap at 128 px is nearer to the truth than at 32 px, and that than no swap."""
    ada, ed = synthetic.CAST["ada"], synthetic.CAST["ed"]
    performance = replace(
        synthetic.animate(3, seconds=1), scenes=synthetic.animate(3, seconds=1).scenes[:2]
    )
    frame = next(synthetic.render_frames(ada, performance.scenes, size_px=2 * SIDE, processes=1))
    truth = next(render_true_swap(ada, ed, performance, side_px=2 * SIDE))
    face = record()
    inside = truth.face_mask

    def error(size_px: int) -> float:
        swapped = Oracle(size_px=size_px, coverage=0.8)(frame.image, face, truth.image)
        return mean_squared_error(swapped, truth.image, inside)

    unswapped = mean_squared_error(frame.image, truth.image, inside)
    assert error(128) < error(32) < unswapped


# --- scores -------------------------------------------------------------------------------------


def test_scores_are_means_over_frames_and_by_label() -> None:
    """A frame that is off by ten levels has 28.13 dB; a frame without a face does not count."""
    mask = np.zeros((40, 40), dtype=np.float32)
    mask[10:30, 10:30] = 1
    truth = np.random.default_rng(1).integers(40, 200, (40, 40, 3), dtype=np.uint8)
    first, second = ReconstructionScores(), ReconstructionScores()
    first.add(truth + np.uint8(10), truth, mask, label="off")
    first.add(truth + np.uint8(1), truth, mask, label="near")
    second.add(truth + np.uint8(10), truth, mask, label="off")
    second.add(truth, truth, np.zeros_like(mask), label="none")
    merged = ReconstructionScores.merge([first, second])
    assert {"off": pytest.approx(28.13, abs=0.01), "near": pytest.approx(48.13, abs=0.01)} == (
        merged.psnr_by_label()
    )
    assert merged.psnr == pytest.approx(10 * np.log10(255**2 / ((100 + 1 + 100) / 3)), abs=1e-6)
    assert 0.9 < merged.ssim <= 1
