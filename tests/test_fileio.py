import errno
import os
from pathlib import Path

import pytest

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import atomic_write, check_writable, translate_os_errors, write_text


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """A failure while writing leaves the old file, and nothing beside it."""
    path = tmp_path / "kept.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="half way"), atomic_write(path) as temporary:
        temporary.write_text("new, but torn")
        raise RuntimeError("half way")
    assert "old" == path.read_text()
    assert [path] == list(tmp_path.iterdir())


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    """A reader in the middle of the writing sees the old text; afterwards the new one."""
    path = tmp_path / "kept.txt"
    write_text(path, "old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert "old" == path.read_text()
    assert "new" == path.read_text()


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    """The temporary file's private mode is not passed on."""
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.touch()
    write_text(ours, "")
    assert plain.stat().st_mode == ours.stat().st_mode


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no space left on the disk while writing"),
        (errno.EDQUOT, "no space left on the disk while writing"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "read-only file system"),
    ],
)
def test_the_systems_refusal_is_said_in_one_line(number: int, message: str) -> None:
    """A full disk and a forbidden folder are told apart, with the path."""
    with pytest.raises(InputError, match=message) as caught, translate_os_errors(Path("x/y.png")):
        raise OSError(number, os.strerror(number))
    assert "x/y.png" in caught.value.message
    assert caught.value.hint


def test_other_failures_pass_unchanged() -> None:
    """What cannot be improved is not caught."""
    with pytest.raises(IsADirectoryError), translate_os_errors(Path("x")):
        raise IsADirectoryError(errno.EISDIR, "is a directory")


def test_what_cannot_be_written_is_known_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the place of a folder, or a folder that is locked; what is missing is fine."""
    check_writable(tmp_path / "not" / "yet" / "there.mp4")
    assert [] == list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not a folder"):
        check_writable(tmp_path / "file" / "out.mp4")
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    with pytest.raises(InputError, match="cannot write to"):
        check_writable(tmp_path / "new" / "out.mp4")
