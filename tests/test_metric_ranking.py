"""The referee is right: known swaps of drawn people rank as they must, and each fault is found.

The people are drawn, so the true swap is known. Its degraded copies are worse for certain, each in
its own way; what a metric must say of them stands in one table.
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
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.dataset import FaceRecord, FaceSet
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.stages.evaluate import write_evaluation

DRIVING, TARGET, WRONG_IDENTITY = "ada", "ed", "bo"
SIDE_PX = 256
FRAMES = 28
FROZEN_FRAMES = 14
"""Frames for which a frozen face keeps its expression."""

QUALITY_ORDER = ("true", "good", "blurred", "shifted", "wrong", "unswapped")
"""From the best swap to none."""

METRIC_ORDERS: Mapping[str, Sequence[str]] = {
    # Who it is: a face is found again wherever it lies, so a shift of 3 px is no worse, and what a
    # light blur takes away tells nobody apart.
    "identity_dlib": ("good", "blurred", "wrong", "unswapped"),
    "identity_sface": ("good", "blurred", "unswapped"),
    "identity_margin_dlib": ("good", "unswapped"),
    "identity_margin_sface": ("good", "unswapped"),
    "id_retrieval_dlib": ("good", "wrong"),
    "id_retrieval_sface": ("good", "wrong"),
    # Whom the face belongs to is no matter for following: the unswapped face follows best.
    "pose": ("unswapped", "true", "frozen"),
    "pose_3ddfa": ("unswapped", "true", "frozen"),
    "expression": ("unswapped", "true", "frozen"),
    "expression_motion": ("unswapped", "true", "blurred", "frozen"),
    "eyes": ("unswapped", "true", "blurred"),
    "mouth": ("unswapped", "true", "blurred", "frozen"),
    "gaze": ("unswapped", "true", "frozen"),
    "jitter": ("true", "jittered", "frozen"),
    "flicker": ("true", "flickering"),
    # A true swap has the light and the skin of the scene; another face has other shadows.
    "seam_gradient": ("unswapped", "true", "hard"),
    "seam_color": ("unswapped", "true", "wrong"),
    "color_offset": ("unswapped", "true", "coloured"),
    "sharpness": ("unswapped", "true", "good", "blurred"),
    "coverage": ("true", "dropped", "unswapped"),
    "unswapped": ("true", "dropped", "unswapped"),
    "psnr": QUALITY_ORDER,
    # Structure out of place is as bad as another structure; LPIPS hardly minds a shift, and minds
    # missing detail most.
    "ssim": ("true", "good", "blurred", "wrong", "unswapped"),
    "lpips": ("true", "good", "shifted", "wrong", "blurred"),
}
"""Cases in the order a metric must rank them, best first; those left out it cannot order."""

FAULTS: Mapping[str, Sequence[str]] = {
    "blurred": ("sharpness", "eyes"),
    "wrong": ("id_retrieval_dlib", "id_retrieval_sface"),
    "unswapped": ("identity_margin_dlib", "identity_margin_sface", "coverage", "unswapped"),
    "frozen": ("expression_motion", "mouth", "jitter"),
    "jittered": ("jitter",),
    "flickering": ("flicker",),
    "coloured": ("color_offset", "seam_color"),
    "hard": ("seam_gradient",),
    "dropped": ("unswapped",),
}
"""What must be called poor about each fault; none of it about the good swap."""


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FaceSet]:
    """Faces of the wanted and the wrong person, as extraction leaves them."""
    folder = tmp_path_factory.mktemp("faces")
    with LiteRTDetector() as detector:
        return {name: _face_set(folder / name, detector) for name in (TARGET, WRONG_IDENTITY)}


def _face_set(folder: Path, detector: LiteRTDetector) -> FaceSet:
    folder.mkdir()
    records = []
    for index, moment in enumerate(synthetic.random_scenes(5, 5)):
        image = synthetic.render_frame(
            synthetic.HeadModel.from_person(synthetic.CAST[folder.name]), moment, SIDE_PX
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
    """The original, and what was made of it, frame by frame."""
    moments = synthetic.animate(3, seconds=FRAMES / 25).scenes
    driving = synthetic.CAST[DRIVING]

    def drawn(person: synthetic.Person) -> list[synthetic.RenderedFrame]:
        return [
            synthetic.render_frame(synthetic.HeadModel.from_person(person), moment, SIDE_PX)
            for moment in moments
        ]

    def worn(name: str) -> list[synthetic.RenderedFrame]:
        return drawn(synthetic.CAST[name].with_skin_of(driving).on_head_of(driving))

    original, true, wrong = drawn(driving), worn(TARGET), worn(WRONG_IDENTITY)
    soft = [cv2.GaussianBlur(one.face_mask, (0, 0), 2) for one in true]
    rng = np.random.default_rng(0)
    light = 1 + 0.04 * rng.standard_normal(FRAMES)
    steps = rng.integers(-1, 2, (FRAMES, 2))

    def made(change: Callable[[int, Image], Image], masks: Sequence[Mask] = soft) -> list[Image]:
        """Return frames whose face is the true one, changed."""
        return [
            _paste(original[index].image, change(index, one.image), masks[index])
            for index, one in enumerate(true)
        ]

    def shifted(x: int, y: int) -> Callable[[Image], Image]:
        return lambda image: np.roll(image, (y, x), axis=(0, 1))

    return [one.image for one in original], {
        "true": [one.image for one in true],
        "good": made(lambda _, image: _blur(image, 0.8)),
        "blurred": made(lambda _, image: _blur(image, 2.5)),
        "shifted": made(lambda _, image: shifted(3, 0)(image)),
        "wrong": [one.image for one in wrong],
        "unswapped": [one.image for one in original],
        "frozen": made(lambda index, _: true[index // FROZEN_FRAMES * FROZEN_FRAMES].image),
        "jittered": made(lambda index, image: shifted(*steps[index])(image)),
        "flickering": made(lambda index, image: _to_uint8(image * light[index])),
        "coloured": made(lambda _, image: _to_uint8(image + np.array([22.0, 0, -22]))),
        "hard": made(
            lambda _, image: _to_uint8(image + 14.0),
            [(one.face_mask > 0.5).astype(np.float32) for one in true],
        ),
        "dropped": [
            (original if index % 10 == 7 else true)[index].image for index in range(FRAMES)
        ],
    }


def _paste(under: Image, over: Image, mask: Mask) -> Image:
    alpha = mask[..., None]
    return np.round(under * (1 - alpha) + over * alpha).astype(np.uint8)


def _blur(image: Image, sigma: float) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.uint8)


def _to_uint8(image: Image) -> Image:
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def judged(
    people: dict[str, FaceSet], cases: tuple[list[Image], dict[str, list[Image]]]
) -> dict[str, Evaluation]:
    """Every case, evaluated."""
    original, made = cases
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "MAX_REFERENCES", 3)
        for name, images in made.items():
            # Recognition takes most of the time, and the faults outside the ladder do not touch it.
            looks = 4 if name in QUALITY_ORDER else 1
            patch.setattr(
                evaluator, "MAX_SLOW_FRAMES", dict.fromkeys(evaluator.MAX_SLOW_FRAMES, looks)
            )
            shots = (
                FramePair(time=index / 25, original=before, swapped=after, truth=true)
                for index, (before, after, true) in enumerate(
                    zip(original, images, made["true"], strict=True)
                )
            )
            found[name] = evaluate_frames(
                shots,
                frame_count=FRAMES,
                identity=people[TARGET],
                distractors=[people[WRONG_IDENTITY]],
                report=Reporter(),
            )
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", METRIC_ORDERS)
def test_known_swaps_are_ranked(judged: dict[str, Evaluation], name: str) -> None:
    """Each metric puts the cases it can tell apart in their true order."""
    first = judged["true"].results[name]
    if first.value is None:
        assert first.missing_reason
        pytest.skip(first.missing_reason)
    values = [judged[case].values[name] for case in METRIC_ORDERS[name]]
    better = first.metric.better
    # A ratio is best at one, and what blurs falls below it.
    ranked = sorted(values, reverse=better != "lower")
    assert ranked == values
    assert len(set(values)) == len(values)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_called_poor(judged: dict[str, Evaluation], fault: str) -> None:
    """A metric calls its own fault poor, and does not call the good swap so."""
    for name in FAULTS[fault]:
        measure = judged[fault].results[name]
        if measure.value is None:
            assert measure.missing_reason
            continue
        assert ("poor", name, measure.value) == (measure.rating, name, measure.value)
        assert judged["good"].results[name].rating != "poor"


@pytest.mark.slow
def test_the_true_swap_is_good_throughout(judged: dict[str, Evaluation]) -> None:
    """Nothing about the right answer is called poor, and against itself it is perfect."""
    true = judged["true"]
    assert [] == [name for name, one in true.results.items() if one.rating == "poor"]
    assert np.inf == true.values["psnr"]
    assert pytest.approx(1) == true.values["ssim"]
    assert [100, 0, 0] == [true.values[name] for name in ("coverage", "unswapped", "undetected")]


@pytest.mark.slow
def test_the_worst_moments_are_those_that_were_spoilt(judged: dict[str, Evaluation]) -> None:
    """Of a swap with three frames left out, those three come first, with their pictures."""
    dropped = judged["dropped"]
    worst = [moment.index for moment in dropped.worst_frames]
    assert {7, 17, 27} <= set(worst)
    assert {"original", "swapped", "truth"} == set(dropped.worst_frames[0].images)


@pytest.mark.slow
def test_what_is_written_says_the_same(judged: dict[str, Evaluation], tmp_path: Path) -> None:
    """The file holds every value, infinite ones too; the page holds its pictures."""
    for name in ("true", "frozen"):
        files = write_evaluation(judged[name], tmp_path / name)
        assert pytest.approx(judged[name].values, rel=1e-4) == read_values(Path(files["numbers"]))
        text = Path(files["page"]).read_text(encoding="utf-8")
        assert "http" not in text.replace("http-equiv", "")
        assert ("data:image/jpeg;base64," in text) == bool(judged[name].worst_frames)
