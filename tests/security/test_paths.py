"""Paths from files: records and recipes lead to nothing outside of the workspace."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from faceswap_cli.core import config
from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.faces.dataset import FaceRecord, FaceSet

MakeSet = Callable[..., FaceSet]


OUTSIDE = [
    "../secret.png",
    "../../secret.png",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a/b.png",
    "a/../../b.png",
    "./a.png",
    "a.png/",
    "a\0.png",
]


def write_records(faces: FaceSet, **changes: object) -> Path:
    """Write a set's records with changed values; return their path."""
    lines = [json.dumps(json.loads(one.to_json()) | changes) for one in faces.records]
    path = faces.folder / "faces.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.fault("path out of the workspace")
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_record_names_a_file_in_its_set(make_set: MakeSet, name: str) -> None:
    """No other folder, and no folder at all."""
    faces = make_set("ada", 1)
    with pytest.raises(InputError, match="its line 1 is not a face"):
        FaceSet.load("ada", folder=faces.folder, records=write_records(faces, file=name))


@pytest.mark.fault("path out of the workspace")
def test_a_crop_is_no_link_to_a_file_elsewhere(make_set: MakeSet, tmp_path: Path) -> None:
    """A link within the set is a crop; one that leaves it is refused, broken ones are missing."""
    faces = make_set("ada", 3)
    first, second, third = (faces.path(record) for record in faces.records)
    secret = first.rename(tmp_path / "secret.png")
    second.unlink()
    second.symlink_to(third.name)
    first.symlink_to(tmp_path / "missing.png")
    records = write_records_of(faces)
    found = FaceSet.load("ada", folder=faces.folder, records=records)
    assert [second.name, third.name] == [one.file for one in found.records]
    first.unlink()
    first.symlink_to(secret)
    with pytest.raises(InputError, match="is a link to a file outside of its set"):
        FaceSet.load("ada", folder=faces.folder, records=records)


def write_records_of(faces: FaceSet) -> Path:
    """Write a set's own records; return their path."""
    path = faces.folder / "faces.jsonl"
    path.write_text("".join(f"{one.to_json()}\n" for one in faces.records))
    return path


def test_a_workspace_may_be_a_link(make_set: MakeSet, tmp_path: Path) -> None:
    """Of a symlinked folder all crops are inside."""
    faces = make_set("ada", 2)
    (tmp_path / "link").symlink_to(tmp_path / "faces")
    folder = tmp_path / "link" / "ada"
    records = write_records_of(faces)
    assert 2 == len(FaceSet.load("ada", folder=folder, records=records))


@pytest.mark.fault("path out of the workspace")
@pytest.mark.parametrize("name", ["../up", "/etc", "a/b", "a\\b", "..", ".", "", "a\0b", "C:x"])
def test_a_name_is_a_folder_of_the_workspace(tmp_path: Path, name: str) -> None:
    """Sets and runs, whatever named them."""
    space = Workspace(root=tmp_path)
    for folder in (space.set_folder, space.run_folder):
        with pytest.raises(ConfigurationError, match="cannot be the name of a folder"):
            folder(name)


@pytest.mark.fault("path out of the workspace")
def test_a_stored_recipe_names_no_file() -> None:
    """A run from elsewhere is continued without the file that it names; an option may name one."""
    stored = config.resolve("autoencoder", "debug")
    stored = replace(stored, train=replace(stored.train, perceptual_file="/etc/passwd"))
    for source in ("default", "preset autoencoder-debug"):
        sources = {**stored.sources, "train.perceptual_file": source}
        recipe = config.resolve("autoencoder", "debug", stored=replace(stored, sources=sources))
        assert "" == recipe.train.perceptual_file  # type: ignore[attr-defined]
    recipe = config.resolve("autoencoder", "debug", ["train.perceptual_file=mine.pth"])
    assert "mine.pth" == recipe.train.perceptual_file  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "changes",
    [
        {"time": "1e999999999"},
        {"time": "1/0"},
        {"time": 0.1},
        {"landmarks": [[1, 2]]},
        {"landmarks": [[float("nan"), 0]] * 478},
        {"to_unit": [[1, 0, 0]]},
        {"to_unit": [[1, 0, 10**400], [0, 1, 0]]},
        {"to_unit": [[0, 0, 0], [0, 0, 0]]},
        {"to_unit": [[1e-9, 0, 0], [0, 1e-9, 0]]},
        {"frame": -1},
        {"frame": "0"},
        {"track": 1 << 80},
        {"pose": [0, 0]},
        {"expression": [0] * 53},
        {"framing": "__class__"},
        {"mask": [[0, 0, 0]]},
        {"file": 3},
    ],
)
def test_a_record_with_absurd_values_is_one_line(
    make_set: MakeSet, changes: dict[str, object]
) -> None:
    """Of another shape or size: the line is named, nothing is computed from it."""
    faces = make_set("ada", 1)
    with pytest.raises(InputError, match="its line 1 is not a face"):
        FaceSet.load("ada", folder=faces.folder, records=write_records(faces, **changes))


def test_a_record_is_read_as_it_was_written(make_set: MakeSet) -> None:
    """The checks above change nothing."""
    [record] = make_set("ada", 1).records
    assert record.to_json() == FaceRecord.from_json(record.to_json()).to_json()
