"""Metrics rank known swaps of synthetic people correctly, and rate each fault poor.

The true swap is known. Each of its degraded copies is worse in a known way; `METRIC_ORDERS` has the
order that each metric must give.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceswap_cli import synthetic
from faceswap_cli.core import image_io
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image, Mask
from faceswap_cli.evaluation import evaluator
from faceswap_cli.evaluation.evaluation import Evaluation, read_values
from faceswap_cli.evaluation.evaluator import evaluate_frames
from faceswap_cli.evaluation.frame_eval import FramePair
from faceswap_cli.evaluation.metrics.external_models import EvalModels
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.dataset import FaceRecord, FaceSet
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.stages.evaluate import write_evaluation

DRIVING, TARGET, WRONG_IDENTITY = "ada", "ed", "bo"
SIDE_PX = 256
FRAMES = 28
FROZEN_FRAMES = 14
"""Frames for which a frozen face has the same expression."""

QUALITY_ORDER = ("true", "good", "blurred", "shifted", "wrong", "unswapped")
"""From the best swap to none."""

METRIC_ORDERS: Mapping[str, Sequence[str]] = {
    # Identity models align faces themselves, so a shift of 3 px is no worse, and a light blur
    # removes nothing that they use.
    "identity_dlib": ("good", "blurred", "wrong", "unswapped"),
    "identity_sface": ("good", "blurred", "unswapped"),
    "identity_margin_dlib": ("good", "unswapped"),
    "identity_margin_sface": ("good", "unswapped"),
    "id_retrieval_dlib": ("good", "wrong"),
    "id_retrieval_sface": ("good", "wrong"),
    # Motion fidelity does not depend on identity: the unswapped face is best.
    "pose": ("unswapped", "true", "frozen"),
    "pose_3ddfa": ("unswapped", "true", "frozen"),
    "expression": ("unswapped", "true", "frozen"),
    "expression_motion": ("unswapped", "true", "blurred", "frozen"),
    "eyes": ("unswapped", "true", "blurred"),
    "mouth": ("unswapped", "true", "blurred", "frozen"),
    "teeth": ("unswapped", "blurred", "frozen"),
    "gaze": ("unswapped", "true", "frozen"),
    "jitter": ("true", "jittered", "frozen"),
    "flicker": ("true", "flickering"),
    # A true swap has the light and the skin of the scene; another face has other shadows.
    "seam_gradient": ("unswapped", "true", "hard"),
    "seam_color": ("unswapped", "true", "wrong"),
    "color_offset": ("unswapped", "true", "tinted"),
    "sharpness": ("unswapped", "true", "good", "blurred"),
    "coverage": ("true", "dropped", "unswapped"),
    "unswapped": ("true", "dropped", "unswapped"),
    "psnr": QUALITY_ORDER,
    # Shifted structure is as bad as other structure; LPIPS hardly reacts to a shift, and most to
    # missing detail.
    "ssim": ("true", "good", "blurred", "wrong", "unswapped"),
    "lpips": ("true", "good", "shifted", "wrong", "blurred"),
}
"""Cases in the order that a metric must give, best first; it cannot order the others."""

FAULTS: Mapping[str, Sequence[str]] = {
    "blurred": ("sharpness", "eyes"),
    "wrong": ("id_retrieval_dlib", "id_retrieval_sface"),
    "unswapped": ("identity_margin_dlib", "identity_margin_sface", "coverage", "unswapped"),
    "frozen": ("expression_motion", "mouth", "teeth", "jitter"),
    "jittered": ("jitter",),
    "flickering": ("flicker",),
    "tinted": ("color_offset", "seam_color"),
    "hard": ("seam_gradient",),
    "dropped": ("unswapped",),
}
"""Metrics that must be poor for each fault, and must not be poor for the good swap."""


@pytest.fixture(scope="module")
def face_sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FaceSet]:
    """Return sets of the target and of a wrong identity, as extraction writes them."""
    folder = tmp_path_factory.mktemp("faces")
    with LiteRTDetector() as detector:
        return {name: _face_set(folder / name, detector) for name in (TARGET, WRONG_IDENTITY)}


def _face_set(folder: Path, detector: LiteRTDetector) -> FaceSet:
    folder.mkdir()
    records = []
    for index, scene in enumerate(synthetic.random_scenes(5, 5)):
        image = synthetic.render_frame(
            synthetic.HeadModel.from_person(synthetic.CAST[folder.name]), scene, SIDE_PX
        ).image
        face = detector.detect(image)[0]
        alignment = align_face(face.landmarks)
        image_io.write_png(folder / f"{index}.png", alignment.crop(image, 160))
        records.append(
            FaceRecord(
                file=f"{index}.png",
                frame=index,
                time=Fraction(index),
                alignment=alignment,
                landmarks=face.landmarks,
                score=face.score,
                sharpness=1.0,
                pose=face.pose,
                blendshapes=face.blendshapes,
            )
        )
    return FaceSet(name=folder.name, folder=folder, records=records)


@pytest.fixture(scope="module")
def cases() -> tuple[list[Image], dict[str, list[Image]]]:
    """Return the original's frames, and each case's frames by name."""
    scenes = synthetic.animate(3, seconds=FRAMES / 25).scenes
    driving = synthetic.CAST[DRIVING]

    def render(person: synthetic.Person) -> list[synthetic.RenderedFrame]:
        return [
            synthetic.render_frame(synthetic.HeadModel.from_person(person), scene, SIDE_PX)
            for scene in scenes
        ]

    def render_swap(name: str) -> list[synthetic.RenderedFrame]:
        return render(synthetic.CAST[name].with_skin_of(driving).on_head_of(driving))

    original, true, wrong = render(driving), render_swap(TARGET), render_swap(WRONG_IDENTITY)
    soft_masks = [cv2.GaussianBlur(one.face_mask, (0, 0), 2) for one in true]
    rng = np.random.default_rng(0)
    light = 1 + 0.04 * rng.standard_normal(FRAMES)
    steps = rng.integers(-1, 2, (FRAMES, 2))

    def degrade(
        change: Callable[[int, Image], Image], masks: Sequence[Mask] = soft_masks
    ) -> list[Image]:
        """Return frames with the changed true face."""
        return [
            _paste(original[index].image, change(index, one.image), masks[index])
            for index, one in enumerate(true)
        ]

    def shift(x: int, y: int) -> Callable[[Image], Image]:
        return lambda image: np.roll(image, (y, x), axis=(0, 1))

    return [one.image for one in original], {
        "true": [one.image for one in true],
        "good": degrade(lambda _, image: _blur(image, 0.8)),
        "blurred": degrade(lambda _, image: _blur(image, 2.5)),
        "shifted": degrade(lambda _, image: shift(3, 0)(image)),
        "wrong": [one.image for one in wrong],
        "unswapped": [one.image for one in original],
        "frozen": degrade(lambda index, _: true[index // FROZEN_FRAMES * FROZEN_FRAMES].image),
        "jittered": degrade(lambda index, image: shift(*steps[index])(image)),
        "flickering": degrade(lambda index, image: _to_uint8(image * light[index])),
        "tinted": degrade(lambda _, image: _to_uint8(image + np.array([22.0, 0, -22]))),
        "hard": degrade(
            lambda _, image: _to_uint8(image + 14.0),
            [(one.face_mask > 0.5).astype(np.float32) for one in true],
        ),
        "dropped": [
            (original if index % 10 == 7 else true)[index].image for index in range(FRAMES)
        ],
    }


def _paste(background: Image, face: Image, mask: Mask) -> Image:
    alpha = mask[..., None]
    return np.round(background * (1 - alpha) + face * alpha).astype(np.uint8)


def _blur(image: Image, sigma: float) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.uint8)


def _to_uint8(image: Image) -> Image:
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def evaluations(
    face_sets: dict[str, FaceSet], cases: tuple[list[Image], dict[str, list[Image]]]
) -> dict[str, Evaluation]:
    """Evaluate all cases."""
    original, swaps = cases
    results = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "MAX_REFERENCES", 3)
        models = EvalModels.open(has_truth=True)
        for name, images in swaps.items():
            # Identity models take most of the time; faults outside the ladder do not affect them.
            count = 4 if name in QUALITY_ORDER else 1
            patch.setattr(
                evaluator, "MAX_SLOW_FRAMES", dict.fromkeys(evaluator.MAX_SLOW_FRAMES, count)
            )
            frames = (
                FramePair(time=index / 25, original=before, swapped=after, truth=true)
                for index, (before, after, true) in enumerate(
                    zip(original, images, swaps["true"], strict=True)
                )
            )
            results[name] = evaluate_frames(
                frames,
                frame_count=FRAMES,
                identity=face_sets[TARGET],
                distractors=[face_sets[WRONG_IDENTITY]],
                report=Reporter(),
                models=models,
            )
    return results


@pytest.mark.slow
@pytest.mark.parametrize("name", METRIC_ORDERS)
def test_known_swaps_are_ranked(evaluations: dict[str, Evaluation], name: str) -> None:
    """Each metric orders the cases that it can distinguish."""
    first = evaluations["true"].results[name]
    if first.value is None:
        assert first.missing_reason
        pytest.skip(first.missing_reason)
    values = [evaluations[case].values[name] for case in METRIC_ORDERS[name]]
    better = first.metric.better
    # A ratio is best at 1, and blur decreases it.
    ranked = sorted(values, reverse=better != "lower")
    assert ranked == values
    assert len(set(values)) == len(values)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_rated_poor(evaluations: dict[str, Evaluation], fault: str) -> None:
    """A metric rates its own fault poor, and the good swap not."""
    for name in FAULTS[fault]:
        result = evaluations[fault].results[name]
        if result.value is None:
            assert result.missing_reason
            continue
        assert ("poor", name, result.value) == (result.rating, name, result.value)
        assert evaluations["good"].results[name].rating != "poor"


@pytest.mark.slow
def test_true_swap_is_never_poor(evaluations: dict[str, Evaluation]) -> None:
    """No metric of the true swap is poor, and against itself it is perfect."""
    true = evaluations["true"]
    assert [] == [name for name, one in true.results.items() if one.rating == "poor"]
    assert np.inf == true.values["psnr"]
    assert pytest.approx(1) == true.values["ssim"]
    assert [100, 0, 0] == [true.values[name] for name in ("coverage", "unswapped", "undetected")]


@pytest.mark.slow
def test_worst_frames_are_the_degraded_ones(evaluations: dict[str, Evaluation]) -> None:
    """Three frames that were not swapped are among the worst, with their images."""
    dropped = evaluations["dropped"]
    worst = [frame.index for frame in dropped.worst_frames]
    assert {7, 17, 27} <= set(worst)
    assert {"original", "swapped", "truth"} == set(dropped.worst_frames[0].images)


@pytest.mark.slow
def test_written_files_have_all_values(evaluations: dict[str, Evaluation], tmp_path: Path) -> None:
    """The JSON has every value, infinite ones too; the page embeds its images."""
    for name in ("true", "frozen"):
        files = write_evaluation(evaluations[name], tmp_path / name)
        assert pytest.approx(evaluations[name].values, rel=1e-4) == read_values(
            Path(files["numbers"])
        )
        text = Path(files["page"]).read_text(encoding="utf-8")
        assert not any(f'{one}="http' in text for one in ("src", "href"))
        assert ("data:image/jpeg;base64," in text) == bool(evaluations[name].worst_frames)
