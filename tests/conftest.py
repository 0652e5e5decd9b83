"""What several test files share: small sets of faces on a disk."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceswap_cli.core import image_io
from faceswap_cli.faces.alignment import FaceAlignment
from faceswap_cli.faces.dataset import FaceRecord, FaceSet
from faceswap_cli.training import estimate

MakeSet = Callable[..., FaceSet]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a training one step is timed, not a second and a half of them."""
    monkeypatch.setattr(estimate, "TIMED_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def _own_key(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tests sign is signed with a key of theirs; the user's is left alone."""
    folder = tmp_path_factory.getbasetemp() / "data"
    monkeypatch.setenv("XDG_DATA_HOME", str(folder))


@pytest.fixture
def make_set(tmp_path: Path) -> MakeSet:
    """Return a function that makes a set of smooth, coloured, different crops, each an oval."""

    def make(name: str, count: int = 24, *, side: int = 48, hue: int = 0) -> FaceSet:
        folder = tmp_path / "faces" / name
        folder.mkdir(parents=True, exist_ok=True)
        records = [_record(folder, name, index, side=side, hue=hue) for index in range(count)]
        return FaceSet(name=name, folder=folder, records=records)

    return make


def _record(folder: Path, name: str, index: int, *, side: int, hue: int) -> FaceRecord:
    """Write one crop and return its record; the frame is the crop itself."""
    chance = np.random.default_rng([index, *name.encode()])
    coarse = chance.integers(0, 100, (4, 4, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.int64)
    image[..., hue % 3] += 100
    file = f"{index:06d}-0.png"
    image_io.write_png(folder / file, np.clip(image, 0, 255).astype(np.uint8))
    turn = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    outline = np.stack([np.cos(turn) * 0.3, np.sin(turn) * 0.4], axis=1) + 0.5
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
