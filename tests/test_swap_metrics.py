"""Swap metrics: what they measure, and that their failures never stop training."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from faceswap_cli.core import model_files
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.types import Image
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.embedding import SFace
from faceswap_cli.faces.types import Face
from faceswap_cli.training import dataset, swap_metrics
from faceswap_cli.training.loader import CpuLoader, FaceLoader
from faceswap_cli.training.swap_metrics import (
    FaceAnalyzer,
    FacePair,
    FaceReading,
    SwapEvaluator,
    SwapMetrics,
)
from faceswap_models.base import ModelSettings, SwapModel, SwapOutput, TrainSettings

ADA, BO = np.eye(128)[:2]


def make_face(*, pose: tuple[float, float, float] = (0, 0, 0), expression: float = 0.0) -> Face:
    """Return a face."""
    return Face(
        box=np.array([0, 0, 9, 9], np.float32),
        landmarks=np.zeros((478, 2), np.float32),
        score=1.0,
        blendshapes=(expression,) * 52,
        pose=pose,
    )


class FakeAnalyzer(FaceAnalyzer):
    """Reads a crop by its mean colors: red is ada, green is bo, blue opens the mouth."""

    def __init__(self, *, lost: Sequence[str] = ()) -> None:
        self.lost = lost

    def analyze(self, image: Image) -> FaceReading | None:
        """Return a reading of an original."""
        return None if "originals" in self.lost else self.analyze_colors(image)

    def analyze_near(self, image: Image, face: Face) -> FaceReading | None:
        """Return a reading of a swap."""
        return None if "swaps" in self.lost else self.analyze_colors(image)

    def analyze_colors(self, image: Image) -> FaceReading:
        """Return a reading of the colors in the middle."""
        red, green, blue = image[20:28, 20:28].mean(axis=(0, 1)) / 255
        embedding = np.where(red > green, ADA, BO)
        return FaceReading(
            face=make_face(pose=(10 * blue, 0, 0), expression=blue), embedding=embedding
        )


class ColorSwapModel(SwapModel):
    """Exchanges red and green: ada becomes bo, and the mouth stays."""

    def __init__(self) -> None:
        super().__init__(ModelSettings(size_px=16), TrainSettings(), ("ada", "bo"))

    parameter_groups = train_step = None  # type: ignore[assignment]  # not trained here

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Return faces with red and green exchanged."""
        return SwapOutput(image=faces[:, [1, 0, 2]], mask=None)


class IdentityModel(ColorSwapModel):
    """Returns its input."""

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Return the faces themselves."""
        return SwapOutput(image=faces, mask=None)


@pytest.fixture
def loader(make_set: Callable[..., FaceSet], tmp_path: Path) -> FaceLoader:
    """Return a loader of a reddish identity and a greenish one."""
    datasets = [
        dataset.load_identity(make_set(name, 24, hue=hue), cache=tmp_path / "cache", side_px=48)
        for name, hue in (("ada", 0), ("bo", 1))
    ]
    settings = ModelSettings(size_px=16)
    return CpuLoader(
        datasets, model=settings, train=TrainSettings(), seed=0, device=torch.device("cpu")
    )


def evaluate(loader: FaceLoader, model: SwapModel, analyzer: FaceAnalyzer) -> SwapMetrics:
    """Return the metrics of a model's swaps, measured by `analyzer`."""
    metrics = SwapEvaluator(loader, load_analyzer=lambda _: analyzer).evaluate(model)
    assert isinstance(metrics, SwapMetrics)
    return metrics


def test_a_swap_moves_the_identity_and_preserves_the_rest(loader: FaceLoader) -> None:
    """The identity changes entirely; the blue that stands for pose and mouth nearly stays."""
    found = evaluate(loader, ColorSwapModel(), FakeAnalyzer())
    assert (1.0, 1.0, -1.0) == (found.detection_rate, found.identity_shift, found.identity_baseline)
    assert found.expression_error is not None
    assert found.expression_error < 0.02
    assert found.pose_error_deg is not None
    assert found.pose_error_deg < 0.1


def test_a_copy_does_not_move_the_identity(loader: FaceLoader) -> None:
    """A copy is as far from the target identity as the original."""
    found = evaluate(loader, IdentityModel(), FakeAnalyzer())
    assert found.identity_baseline == found.identity_shift == -1.0


def test_swaps_that_are_no_faces_are_counted(loader: FaceLoader) -> None:
    """If no swap is a face there is nothing to compare, and the metrics are None."""
    found = evaluate(loader, ColorSwapModel(), FakeAnalyzer(lost=["swaps"]))
    assert (
        SwapMetrics(
            detection_rate=0,
            pose_error_deg=None,
            expression_error=None,
            identity_shift=None,
            identity_baseline=-1,
        )
        == found
    )
    assert "0% of swaps are faces" == str(found)


def test_sharper_swaps_of_the_person_wanted_are_better() -> None:
    """Of two equal in pose and expression; more than the target's own sharpness is no gain."""
    blurred = SwapMetrics(
        detection_rate=1,
        pose_error_deg=2,
        expression_error=0.1,
        identity_shift=0.2,
        identity_baseline=-0.4,
        sharpness=0.5,
    )
    sharp, sharpest = replace(blurred, sharpness=1.0), replace(blurred, sharpness=1.4)
    assert sharp.error == sharpest.error < blurred.error
    assert replace(sharp, identity_shift=0.3).error < sharp.error
    assert "50% as sharp" in str(blurred)


def test_differences_are_means_over_faces_found() -> None:
    """Angles go the short way round; one swap of two is a face."""
    before = FaceReading(face=make_face(pose=(0, 0, 179)), embedding=ADA)
    after = FaceReading(
        face=make_face(pose=(2, -6, -178), expression=0.5), embedding=(ADA + BO) / 2**0.5
    )
    pairs = [
        FacePair(original=before, swapped=one, identity_axis=BO - ADA) for one in (after, None)
    ]
    found = swap_metrics.compute_swap_metrics(pairs)
    assert (0.5, -1.0) == (found.detection_rate, found.identity_baseline)
    assert pytest.approx((7.0, 0.5, 0.0)) == (
        found.pose_error_deg,
        found.expression_error,
        found.identity_shift,
    )
    assert "50% of swaps are faces, pose within 7.0 degrees, expression within 0.500, " in str(
        found
    )


def test_a_swap_is_pasted_where_it_was_cropped(loader: FaceLoader) -> None:
    """The center of a crop, pasted back, is the crop, up to what resampling loses."""
    ada = loader.datasets[0]
    pixels = np.dstack([ada.pixels[0][..., :3], np.full((48, 48), 255, np.uint8)])
    sharp = CpuLoader(
        loader.datasets,
        model=ModelSettings(size_px=48, coverage=0.5),
        train=loader.train,
        seed=0,
        device=loader.device,
    )
    [center] = swap_metrics.to_images(sharp.clean_batch(ada, np.array([0])).target[0])
    back = swap_metrics.paste_into_crop(center, pixels, mask=None, coverage=0.5)[14:34, 14:34]
    assert np.abs(back.astype(int) - pixels[14:34, 14:34, :3]).mean() < 1.5


def test_outside_the_outline_a_crop_stays(loader: FaceLoader) -> None:
    """Only the face is replaced."""
    pixels = loader.datasets[0].pixels[0]
    white = swap_metrics.paste_into_crop(
        np.full((16, 16, 3), 255, np.uint8), pixels, mask=None, coverage=0.8
    )
    # The outline is resampled, so its edge may move by a pixel.
    pixel = np.ones((3, 3), np.uint8)
    outside = cv2.dilate(np.uint8(pixels[..., 3] > 0), pixel) == 0
    inside = cv2.erode(np.uint8(pixels[..., 3] >= dataset.FACE_LEVEL), pixel) == 1
    assert np.array_equal(pixels[outside, :3], white[outside])
    assert (white[inside] == 255).all()


def test_outside_the_learned_mask_a_crop_stays(loader: FaceLoader) -> None:
    """A mask of zeros replaces nothing; a mask of ones replaces as much as no mask."""
    pixels = loader.datasets[0].pixels[0]
    swap = np.full((16, 16, 3), 255, np.uint8)
    nothing, everything = np.zeros((16, 16), np.float32), np.ones((16, 16), np.float32)
    assert np.array_equal(
        pixels[..., :3], swap_metrics.paste_into_crop(swap, pixels, mask=nothing, coverage=0.8)
    )
    assert np.array_equal(
        swap_metrics.paste_into_crop(swap, pixels, mask=None, coverage=0.8),
        swap_metrics.paste_into_crop(swap, pixels, mask=everything, coverage=0.8),
    )


def raise_missing_file(stack: ExitStack) -> FaceAnalyzer:
    """Fail as a model file that is not found."""
    raise InputError("the model file sface.onnx is not on this machine")


def raise_unexpected(stack: ExitStack) -> FaceAnalyzer:
    """Fail with an error of a library."""
    raise RuntimeError("no operator")


@pytest.mark.parametrize(
    ("load_analyzer", "reason"),
    [
        (raise_missing_file, "the model file sface.onnx is not on this machine"),
        (raise_unexpected, "the face models failed: no operator"),
        (
            lambda _: FakeAnalyzer(lost=["originals"]),
            "no face is found in the validation crops of ada",
        ),
    ],
)
def test_failures_are_returned_as_texts(
    loader: FaceLoader, load_analyzer: Callable[[ExitStack], FaceAnalyzer], reason: str
) -> None:
    """Nothing is raised; the text stays the same, and nothing is tried again."""
    evaluator = SwapEvaluator(loader, load_analyzer=load_analyzer)
    assert reason == evaluator.evaluate(ColorSwapModel()) == evaluator.evaluate(ColorSwapModel())


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_after_out_of_memory_the_next_preview_tries_again(
    loader: FaceLoader, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The models are released and loaded again; the metrics are not disabled."""
    closed = []

    def load_analyzer(stack: ExitStack) -> FaceAnalyzer:
        stack.callback(closed.append, True)
        return FakeAnalyzer()

    def swap(*_: object) -> SwapOutput:
        raise error

    evaluator = SwapEvaluator(loader, load_analyzer=load_analyzer)
    with monkeypatch.context() as patch:
        patch.setattr(ColorSwapModel, "swap", swap)
        text = evaluator.evaluate(ColorSwapModel())
    assert "memory ran out; the next preview tries again" == text
    assert [True] == closed
    assert isinstance(evaluator.evaluate(ColorSwapModel()), SwapMetrics)


def test_embeddings_have_unit_length_and_differ_between_images() -> None:
    """The same face has the same embedding, a different image another."""
    sface = SFace(model_files.find_model_file("sface"))
    rng = np.random.default_rng(0)
    landmarks = (rng.random((478, 2)) * 60 + 30).astype(np.float32)
    landmarks[[33, 133]], landmarks[[362, 263]] = (40, 50), (80, 50)
    landmarks[[1, 61, 291]] = (60, 70), (46, 90), (74, 90)
    one, other = rng.integers(0, 255, (2, 120, 120, 3), dtype=np.uint8)
    first = sface.embed(one, landmarks)
    assert (128,) == first.shape
    assert pytest.approx(1) == np.linalg.norm(first)
    assert np.array_equal(first, sface.embed(one, landmarks))
    assert first @ sface.embed(other, landmarks) < 0.999
