import os
from pathlib import Path

import pytest

from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.core.workspace import FORMAT, Workspace, validate_name


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    """Return a workspace with two sets and two runs, the second one newer."""
    space = Workspace.open(tmp_path / "space")
    for name in ("alice", "bob"):
        space.set_folder(name).root.mkdir(parents=True)
        space.set_folder(name).records.touch()
    for age, name in enumerate(("first", "second")):
        weights = space.run_folder(name).weights
        weights.parent.mkdir(parents=True)
        weights.touch()
        os.utime(weights, ns=(age * 10**9, age * 10**9))
    return space


def test_a_workspace_is_created_once(tmp_path: Path) -> None:
    """Opening it again finds it."""
    first = Workspace.open(tmp_path / "new" / "deep")
    assert first == Workspace.open(tmp_path / "new" / "deep")


def test_sets_and_runs_are_found_by_name(space: Workspace) -> None:
    """A folder with records is a set, one with weights a run; `latest` has the newest weights."""
    assert ["alice", "bob"] == space.set_names()
    assert ["first", "second"] == space.run_names()
    assert space.run_folder("second").weights == space.find_weights("latest")
    assert space.run_folder("first").weights == space.find_weights("first")
    assert space.run_folder("first").weights == space.find_weights(
        str(space.run_folder("first").root)
    )
    assert space.run_folder("first").weights == space.find_weights(
        str(space.run_folder("first").weights)
    )


def test_an_unknown_set_has_a_suggestion(space: Workspace) -> None:
    """The hint is the nearest set's name."""
    with pytest.raises(ConfigurationError, match='no set called "alcie"') as caught:
        space.require_set("alcie")
    assert 'did you mean "alice"?' == caught.value.hint


def test_an_unknown_model_has_a_suggestion(space: Workspace) -> None:
    """The hint is the nearest run's name."""
    with pytest.raises(ConfigurationError, match='no trained model called "secnd"') as caught:
        space.find_weights("secnd")
    assert 'did you mean "second"?' == caught.value.hint


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", ".hidden", "a\nb", "c:d"])
def test_names_that_are_paths_are_refused(name: str) -> None:
    """A name is that of one visible folder in the workspace."""
    with pytest.raises(ConfigurationError, match="cannot be the name of a folder"):
        validate_name(name)


@pytest.mark.parametrize("name", ["a", "Clip 1 (final)", "Zoë", "日本", "a.b-c_d"])
def test_usual_names_are_accepted(name: str) -> None:
    """With spaces, dots and any alphabet."""
    assert name == validate_name(name)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (f"format = {FORMAT + 1}", "newer faceswap"),
        ("format = ", "cannot be read"),
        ("color = 1", "cannot be read"),
    ],
)
def test_a_newer_or_damaged_workspace_is_refused(
    tmp_path: Path, version: str, message: str
) -> None:
    """Its version file is unchanged."""
    (tmp_path / "workspace.toml").write_text(version)
    with pytest.raises(InputError, match=message):
        Workspace.open(tmp_path)
    assert version == (tmp_path / "workspace.toml").read_text()


def test_a_file_as_workspace_is_refused(tmp_path: Path) -> None:
    """The error says that it is a file."""
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file, not a workspace folder"):
        Workspace.open(tmp_path / "file")


def test_from_path_writes_nothing(tmp_path: Path) -> None:
    """A workspace that does not exist is empty and is not created."""
    space = Workspace.from_path(tmp_path / "none")
    assert ([], []) == (space.set_names(), space.run_names())
    assert not space.root.exists()


def test_only_empty_folders_are_removed(space: Workspace) -> None:
    """Sets and runs stay; an empty workspace is removed."""
    before = sorted(space.root.rglob("*"))
    space.exports.mkdir()
    space.remove_empty_folders()
    assert before == sorted(space.root.rglob("*"))
    empty = Workspace(root=space.root / "empty")
    empty.exports.mkdir(parents=True)
    empty.remove_empty_folders()
    assert not empty.root.exists()


def test_the_longest_names_have_pages(space: Workspace) -> None:
    """A page is named after its sets or runs, shortened to what a file's name can be."""
    one, other = "x" * 255, "y" * 255
    for page in (space.faces_page(one), space.faces_page(one, other), space.runs_page(one, other)):
        page.parent.mkdir(parents=True, exist_ok=True)
        page.touch()
    assert space.faces_page(one, other) != space.faces_page(other, one)
    assert "a+b.html" == space.faces_page("a", "b").name
    with pytest.raises(ConfigurationError, match="256 bytes is too long") as caught:
        space.set_folder("x" * 256)
    assert "--name" in caught.value.hint
