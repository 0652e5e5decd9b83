"""Fixtures of the tests of extract: a clip of a spot, and a set that does not exist yet."""

from pathlib import Path

import pytest
from fakes import read_set_files, run_extract, write_clip

from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces import crop_writer


@pytest.fixture(autouse=True)
def _checkpoint_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a checkpoint after every frame: the clips here take less than two seconds."""
    monkeypatch.setattr(crop_writer, "CHECKPOINT_INTERVAL_S", 0.0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short clip in a folder of its own."""
    return write_clip(tmp_path_factory.mktemp("clip") / "spot.mp4")


@pytest.fixture
def folder(tmp_path: Path) -> SetFolder:
    """A set that does not exist yet."""
    return SetFolder(root=tmp_path / "workspace" / "faces" / "spot")


@pytest.fixture(scope="module")
def whole(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of an uninterrupted extraction."""
    undisturbed = SetFolder(root=tmp_path_factory.mktemp("whole") / "undisturbed")
    run_extract(clip, undisturbed)
    return read_set_files(undisturbed)
