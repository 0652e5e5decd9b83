"""Shared fixtures: small sets of faces, a signing key, two cores, training without face models."""

from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fault_figures import FaultCount, Figures, note_kind

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError
from faceswap_cli.faces.alignment import FaceAlignment
from faceswap_cli.faces.dataset import FaceRecord, FaceSet
from faceswap_cli.parallel import pools
from faceswap_cli.training import estimate, loop
from faceswap_cli.training.swap_metrics import FaceAnalyzer, SwapEvaluator

MakeSet = Callable[..., FaceSet]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of tests/faults; those of a folder's own conftest come too late."""
    parser.addoption("--long", action="store_true", help="try the long lists of faults")
    parser.addoption("--figures", metavar="FILE", help="write how many faults were survived")


def pytest_configure(config: pytest.Config) -> None:
    """Count faults if asked to."""
    if path := config.getoption("--figures"):
        config.pluginmanager.register(Figures(Path(path)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the kind of fault of each test with its outcome; skip what only long lists have."""
    for item in items:
        note_kind(item)
        if item.get_closest_marker("long") and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="with --long"))


@pytest.fixture
def fault_count(request: pytest.FixtureRequest) -> FaultCount:
    """Return the counter of a test that tries several faults."""
    count = FaultCount()
    request.node.user_properties.append(("fault_count", count.numbers))
    return count


@pytest.fixture(autouse=True)
def _short_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time one step for an estimate, not 1.5 seconds of them."""
    monkeypatch.setattr(estimate, "TIMED_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def _own_key(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Sign with a key of the tests; the user's key is not touched."""
    folder = tmp_path_factory.getbasetemp() / "data"
    monkeypatch.setenv("XDG_DATA_HOME", str(folder))


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Process inputs in this process, on any machine: no other one would know the fakes."""
    monkeypatch.setattr(pools, "count_cores", lambda: 2)


@pytest.fixture
def no_face_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train without face models, since these sets have no real faces, and on one thread."""
    torch.set_num_threads(1)  # the fastest for tiny networks

    def unavailable(stack: ExitStack) -> FaceAnalyzer:
        raise InputError("the face models are not available")

    monkeypatch.setattr(loop, "SwapEvaluator", partial(SwapEvaluator, load_analyzer=unavailable))


@pytest.fixture
def make_set(tmp_path: Path) -> MakeSet:
    """Return a function that makes a set of smooth, colored, different crops, each with an oval."""

    def make(name: str, count: int = 24, *, side: int = 48, hue: int = 0) -> FaceSet:
        folder = tmp_path / "faces" / name
        folder.mkdir(parents=True, exist_ok=True)
        records = [_record(folder, name, index, side=side, hue=hue) for index in range(count)]
        return FaceSet(name=name, folder=folder, records=records)

    return make


def _record(folder: Path, name: str, index: int, *, side: int, hue: int) -> FaceRecord:
    """Write one crop and return its record; the frame is the crop itself."""
    rng = np.random.default_rng([index, *name.encode()])
    coarse = rng.integers(0, 100, (4, 4, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.int64)
    image[..., hue % 3] += 100
    file = f"{index:06d}-0.png"
    image_io.write_png(folder / file, np.clip(image, 0, 255).astype(np.uint8))
    angle = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    outline = np.stack([np.cos(angle) * 0.3, np.sin(angle) * 0.4], axis=1) + 0.5
    return FaceRecord(
        file=file,
        frame=index,
        time=Fraction(index, 25),
        alignment=FaceAlignment(to_unit=np.array([[1, 0, 0.5], [0, 1, 0.5]]) / side),
        landmarks=(outline * side - 0.5).astype(np.float32),
        score=1.0,
        sharpness=100.0,
        pose=(0.0, 0.0, 0.0),
        blendshapes=(0.0,) * 52,
    )
