import os
from pathlib import Path

import pytest

from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.core.workspace import FORMAT, Workspace, validate_name


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    """A fresh workspace with two sets and two runs, the second one newer."""
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


def test_opening_twice_is_opening_once(tmp_path: Path) -> None:
    """A workspace is made where there is none, and found again."""
    first = Workspace.open(tmp_path / "new" / "deep")
    assert first == Workspace.open(tmp_path / "new" / "deep")


def test_sets_and_runs_are_found_by_name(space: Workspace) -> None:
    """What holds records is a set; what holds weights is a run; the newest run is the latest."""
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


def test_an_unknown_set_names_the_nearest(space: Workspace) -> None:
    """A slip of the finger gets the right name back."""
    with pytest.raises(ConfigurationError, match='no set called "alcie"') as caught:
        space.require_set("alcie")
    assert 'did you mean "alice"?' == caught.value.hint


def test_an_unknown_model_names_the_nearest(space: Workspace) -> None:
    """Likewise for runs."""
    with pytest.raises(ConfigurationError, match='no trained model called "secnd"') as caught:
        space.find_weights("secnd")
    assert 'did you mean "second"?' == caught.value.hint


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", ".hidden", "a\nb", "c:d"])
def test_no_name_reaches_out_of_the_workspace(name: str) -> None:
    """Names are folder names and nothing more."""
    with pytest.raises(ConfigurationError, match="cannot be the name of a folder"):
        validate_name(name)


@pytest.mark.parametrize("name", ["a", "Clip 1 (final)", "Zoë", "日本", "a.b-c_d"])
def test_names_people_use_are_names(name: str) -> None:
    """Spaces, dots and any alphabet are fine."""
    assert name == validate_name(name)


@pytest.mark.parametrize(
    ("stamp", "message"),
    [
        (f"format = {FORMAT + 1}", "newer faceswap"),
        ("format = ", "cannot be read"),
        ("colour = 1", "cannot be read"),
    ],
)
def test_a_strange_workspace_is_left_alone(tmp_path: Path, stamp: str, message: str) -> None:
    """A newer or damaged stamp is refused, and kept as it is."""
    (tmp_path / "workspace.toml").write_text(stamp)
    with pytest.raises(InputError, match=message):
        Workspace.open(tmp_path)
    assert stamp == (tmp_path / "workspace.toml").read_text()


def test_a_file_is_no_workspace(tmp_path: Path) -> None:
    """A file in the place of the folder is said to be one."""
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file, not a workspace folder"):
        Workspace.open(tmp_path / "file")


def test_looking_writes_nothing(tmp_path: Path) -> None:
    """A workspace that is only asked after is not made."""
    space = Workspace.from_path(tmp_path / "none")
    assert ([], []) == (space.set_names(), space.run_names())
    assert not space.root.exists()


def test_tidying_removes_only_what_is_empty(space: Workspace) -> None:
    """Sets and runs stay; a workspace with nothing in it goes."""
    there = sorted(space.root.rglob("*"))
    space.exports.mkdir()
    space.remove_empty_folders()
    assert there == sorted(space.root.rglob("*"))
    bare = Workspace(root=space.root / "bare")
    bare.exports.mkdir(parents=True)
    bare.remove_empty_folders()
    assert not bare.root.exists()
