"""Laws of the referee: what is drawn, the trivial answers, and the counting of scores."""

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
    """Return a face in the middle of a frame of 2 SIDE px; its crop shows it all."""
    turn = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    outline = np.stack([np.cos(turn) * 0.5 * SIDE, np.sin(turn) * 0.6 * SIDE], axis=1) + SIDE
    expression = np.zeros(52)
    expression[JAW_OPEN] = jaw
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
        blendshapes=tuple(expression.tolist()),
    )


def flat_image(level: int) -> np.ndarray:
    """Return a frame of one level."""
    return np.full((2 * SIDE, 2 * SIDE, 3), level, dtype=np.uint8)


# --- what is drawn ------------------------------------------------------------------------------


def test_every_trial_tries_what_it_says() -> None:
    """Far away, in profile, behind a hand, fast, cut: each in its own frames alone."""
    script = make_test_scenario(0, frames=24)
    by_trial = {
        name: [
            moment
            for moment, label in zip(script.performance.scenes, script.labels, strict=True)
            if label == name
        ]
        for name in TRIALS
    }
    assert all(len(moments) == 24 for moments in by_trial.values())
    assert {"hand"} == {name for name, them in by_trial.items() if any(m.hand for m in them)}
    assert {"small"} == {
        name for name, them in by_trial.items() if min(m.scale for m in them) < 0.5
    }
    assert 55 < max(abs(moment.yaw) for moment in by_trial["profile"])
    assert {"cuts"} == {
        name for name, them in by_trial.items() if len({m.background for m in them}) > 1
    }
    speed = {
        name: np.abs(np.diff([moment.yaw for moment in them])).mean()
        for name, them in by_trial.items()
    }
    assert speed["fast"] > 2 * speed["talking"]
    lights = {name: np.std([m.light[0] for m in them]) for name, them in by_trial.items()}
    assert lights["light"] > 5 * lights["talking"]


def test_drawings_never_change_and_nothing_tried_is_learnt_from() -> None:
    """The same people do the same things in every run; trials are other performances."""
    assert make_test_scenario(1, frames=6) == make_test_scenario(1, frames=6)
    assert select_identities(7) == select_identities(7)
    assert list(select_identities(3)) == list(trials.IDENTITIES[:3])
    seen = {
        (round(moment.yaw, 6), round(moment.pitch, 6))
        for number in range(3)
        for moment in make_training_performance(number, seconds=3).scenes
    }
    tried = {
        (round(moment.yaw, 6), round(moment.pitch, 6))
        for number in range(3)
        for moment in make_test_scenario(number, frames=6).performance.scenes
    }
    assert len(tried) > 100
    assert not seen & tried


# --- answers ------------------------------------------------------------------------------------


def test_an_affine_map_is_found_again() -> None:
    """Points carried by a map give back that map."""
    points = np.random.default_rng(2).uniform(0, 90, (20, 2)).astype(np.float32)
    wanted = np.array([[1.1, 0.2, 5.0], [-0.3, 0.9, -7.0]])
    np.testing.assert_allclose(
        fit_affine(points, transform_points(points, wanted)), wanted, atol=1e-4
    )


def test_the_nearest_pose_is_taken_and_stays_inside_the_face(tmp_path: Path) -> None:
    """A face that looks right with a shut mouth gets the crop that does; around it all stays."""
    levels = {(-20.0, 0.0): 60, (20.0, 0.0): 120, (20.0, 0.9): 180}
    records = []
    for (yaw, jaw), level in levels.items():
        records.append(record(yaw=yaw, jaw=jaw, file=f"{level}.png"))
        image_io.write_png(tmp_path / f"{level}.png", flat_image(level))
    faces = FaceSet(name="b", folder=tmp_path, records=records)
    answer = NearestPoseBaseline(faces=faces, compositor=Compositor(color_transfer=None))
    frame = flat_image(10)
    found = answer(frame, record(yaw=16, jaw=0.1), frame)
    assert 120 == found[SIDE, SIDE, 0]
    assert (found[:, :20] == 10).all()
    assert (UnswappedBaseline()(frame, records[0], frame) == frame).all()


def test_the_mean_face_is_the_mean_of_the_crops(tmp_path: Path) -> None:
    """Two levels give the level between them."""
    for level in (40, 60):
        image_io.write_png(tmp_path / f"{level}.png", flat_image(level))
    faces = FaceSet(
        name="b", folder=tmp_path, records=[record(file="40.png"), record(file="60.png")]
    )
    assert 50 == MeanFaceBaseline.from_faces(faces).face[0, 0, 0]


def test_the_ceiling_rises_with_the_network_and_stands_above_the_floor() -> None:
    """The true swap at 128 px is nearer to the truth than at 32 px, and than no swap."""
    ada, ed = synthetic.CAST["ada"], synthetic.CAST["ed"]
    moments = replace(
        synthetic.animate(3, seconds=1), scenes=synthetic.animate(3, seconds=1).scenes[:2]
    )
    frame = next(synthetic.render_frames(ada, moments.scenes, size_px=2 * SIDE, processes=1))
    truth = next(render_true_swap(ada, ed, moments, side_px=2 * SIDE))
    place = record()
    inside = truth.face_mask

    def error(size_px: int) -> float:
        made = Oracle(size_px=size_px, coverage=0.8)(frame.image, place, truth.image)
        return mean_squared_error(made, truth.image, inside)

    unswapped = mean_squared_error(frame.image, truth.image, inside)
    assert error(128) < error(32) < unswapped


# --- scores -------------------------------------------------------------------------------------


def test_scores_are_counted_by_trial_and_frames_weigh_alike() -> None:
    """A frame that is off by ten levels everywhere has 28.13 dB; one without a face counts not."""
    mask = np.zeros((40, 40), dtype=np.float32)
    mask[10:30, 10:30] = 1
    truth = np.random.default_rng(1).integers(40, 200, (40, 40, 3), dtype=np.uint8)
    one, other = ReconstructionScores(), ReconstructionScores()
    one.add(truth + np.uint8(10), truth, mask, label="off")
    one.add(truth + np.uint8(1), truth, mask, label="near")
    other.add(truth + np.uint8(10), truth, mask, label="off")
    other.add(truth, truth, np.zeros_like(mask), label="none")
    whole = ReconstructionScores.merge([one, other])
    assert {"off": pytest.approx(28.13, abs=0.01), "near": pytest.approx(48.13, abs=0.01)} == (
        whole.psnr_by_label()
    )
    assert whole.psnr == pytest.approx(10 * np.log10(255**2 / ((100 + 1 + 100) / 3)), abs=1e-6)
    assert 0.9 < whole.ssim <= 1
