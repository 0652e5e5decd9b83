"""What other packages add: the example of docs/develop/plugins.md, installed."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from faceswap_cli.core.config import resolve
from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.evaluation.frame_eval import FrameEvaluator, FramePair
from faceswap_cli.evaluation.metrics import registry as metric_registry
from faceswap_cli.evaluation.metrics.external_models import EvalModels
from faceswap_cli.evaluation.metrics.registry import METRICS, CropMetric, Metric
from faceswap_cli.faces import detectors
from faceswap_cli.synthetic import CAST, HeadModel, animate, render_frame
from faceswap_models import registry
from faceswap_models.plugins import BACKENDS, DETECTORS, find_plugins

ROOT = Path(__file__).parents[1]
SCRIPT = """
import json
import numpy as np
from faceswap_cli.core.config import resolve
from faceswap_cli.evaluation.metrics.registry import METRICS, crop_metrics
from faceswap_cli.faces.detectors import DETECTORS
from faceswap_models import registry

image = np.zeros((32, 32, 3), np.uint8)
with DETECTORS["large"]() as detector:
    faces = detector.detect(image)
print(json.dumps({
    "backend": registry.load("tint").__name__,
    "strength": resolve("tint", None).model.strength,
    "faces": len(faces),
    "metric": METRICS["face_change"].title,
    "last": list(METRICS)[-1],
    "value": crop_metrics()["face_change"].measure(image + 3, image, np.ones((32, 32))),
}))
"""
"""Uses each of the three as the program does."""


def code_blocks(page: str, language: str) -> list[str]:
    """Return the blocks of code of a page in a language."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the example of docs/develop/plugins.md, and return where."""
    folder = tmp_path_factory.mktemp("plugin")
    package = folder / "source" / "faceswap_extras"
    package.mkdir(parents=True)
    [project] = code_blocks("develop/plugins.md", "toml")
    detector, metric = code_blocks("develop/plugins.md", "python")
    [backend] = code_blocks("develop/add-a-backend.md", "python")
    plain, debug = code_blocks("develop/add-a-backend.md", "toml")
    (package.parent / "pyproject.toml").write_text(project)
    for name, text in {
        "__init__.py": "",
        "backend.py": backend,
        "detector.py": detector,
        "metric.py": metric,
        "tint-plain.toml": plain,
        "tint-debug.toml": debug,
    }.items():
        (package / name).write_text(text)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--target", str(folder / "site"), str(package.parent)]
    subprocess.run(command, check=True)
    return folder / "site"


def run_python(site: Path, *arguments: str) -> str:
    """Run Python with what is installed in `site`; return what it prints."""
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.slow
def test_an_installed_package_adds_all_three(site: Path) -> None:
    """The example is found by its entry points, with its presets, and works."""
    presets = json.loads(run_python(site, "-m", "faceswap_cli", "presets", "--json"))
    assert {"tint-plain", "tint-debug", "autoencoder-light"} <= presets.keys()
    assert "tint" in run_python(site, "-m", "faceswap_cli", "train", "--help")
    found = json.loads(run_python(site, "-c", SCRIPT))
    assert "face_change" == found.pop("last")
    assert {
        "backend": "Tint",
        "strength": 0.8,
        "faces": 0,
        "metric": "change of the face",
        "value": 3.0,
    } == found


MEAN = CropMetric(
    metric=Metric(name="mean", title="mean", group="artifacts", unit="levels", better="higher"),
    measure=lambda swapped, *_: float(swapped.mean()),
)
NO_GROUP = CropMetric(
    metric=Metric(name="mean", title="mean", group="others", unit="levels", better="higher"),
    measure=MEAN.measure,
)
NUMBER = 3


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str, str], None]]:
    """Return a function that adds an entry point: group, name and value."""

    def add(group: str, name: str, value: str) -> None:
        entry_point = EntryPoint(name=name, value=value, group=group)
        for module in (registry, metric_registry):
            monkeypatch.setattr(
                module, "find_plugins", lambda asked: {name: entry_point} if asked == group else {}
            )

    yield add
    metric_registry.crop_metrics.cache_clear()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no_such_package:Tint", "No module named 'no_such_package'"),
        ("test_plugins:Tint", "no attribute 'Tint'"),
        ("test_plugins:NUMBER", "no subclass of SwapModel"),
    ],
)
def test_a_backend_that_cannot_be_used_is_one_error(
    plug_in: Callable[[str, str, str], None], value: str, reason: str
) -> None:
    """It is listed, has no presets, and is refused with the reason when it is asked for."""
    plug_in(BACKENDS, "tint", value)
    assert "tint" in registry.names()
    assert {} == registry.presets("tint")
    with pytest.raises(ConfigurationError, match=f'backend "tint" of .*{reason}'):
        resolve("tint", None)


def test_our_own_backend_counts(plug_in: Callable[[str, str, str], None]) -> None:
    """Another package cannot replace one of ours."""
    plug_in(BACKENDS, "autoencoder", "no_such_package:Tint")
    assert "Autoencoder" == registry.load("autoencoder").__name__
    assert "light" in registry.presets("autoencoder")


@pytest.mark.parametrize("value", ["no_such_package:Found", "test_plugins:NUMBER"])
def test_a_detector_that_cannot_be_used_is_one_error(value: str) -> None:
    """It is refused when it is opened."""
    entry_point = EntryPoint(name="large", value=value, group=DETECTORS)
    with pytest.raises(ConfigurationError, match=r'"large" of .* cannot be used'):
        detectors._load_detector(entry_point)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("mean", "test_plugins:NUMBER", "no CropMetric"),
        ("mean", "test_plugins:NO_GROUP", "its group is none of identity"),
        ("other", "test_plugins:MEAN", "its name is not its own"),
    ],
)
def test_a_metric_that_cannot_be_used_is_one_error(
    plug_in: Callable[[str, str, str], None], name: str, value: str, reason: str
) -> None:
    """The first question about metrics says which package is to blame."""
    plug_in("faceswap.metrics", name, value)
    with pytest.raises(ConfigurationError, match=f'metric "{name}" of .*{reason}'):
        list(METRICS)


def test_a_metric_is_measured_on_every_frame(plug_in: Callable[[str, str, str], None]) -> None:
    """Its value is among those of a frame, of the swapped crop."""
    plug_in("faceswap.metrics", "mean", "test_plugins:MEAN")
    actor = HeadModel.from_person(CAST["ada"])
    image = render_frame(actor, animate(3, seconds=1).scenes[0], 160).image
    models = EvalModels(identity={}, pose=None, lpips=None, unavailable={})
    with detectors.DETECTORS["litert"]() as detector:
        evaluator = FrameEvaluator(detector, models, intervals={})
        measured = evaluator.evaluate(
            FramePair(time=0.0, original=image, swapped=np.full_like(image, 77))
        )
    assert 77 == measured.artifacts["mean"]
    assert "mean" in METRICS


def test_names_are_identifiers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a hyphen would be read as a backend and its preset."""
    found = [EntryPoint(name=name, value="x:y", group="g") for name in ("good_1", "not-good")]
    monkeypatch.setattr("faceswap_models.plugins.entry_points", lambda **_: found)
    assert ["good_1"] == list(find_plugins.__wrapped__("g"))
