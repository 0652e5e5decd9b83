import errno
import os
from pathlib import Path

import pytest

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import (
    DIGEST_NOTE,
    add_digest,
    append_json,
    append_line,
    atomic_write,
    check_writable,
    fit_name,
    has_changed,
    read_json_lines,
    translate_os_errors,
    write_text,
)


def test_a_failed_write_preserves_the_old_file(tmp_path: Path) -> None:
    """A failure while writing leaves the old file, and no temporary one."""
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="half way"), atomic_write(path) as temporary:
        temporary.write_text("new, but torn")
        raise RuntimeError("half way")
    assert "old" == path.read_text()
    assert [path] == list(tmp_path.iterdir())


def test_a_file_is_replaced_when_the_new_one_is_complete(tmp_path: Path) -> None:
    """During writing a reader gets the old text, afterwards the new one."""
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert "old" == path.read_text()
    assert "new" == path.read_text()


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    """It does not have the temporary file's private mode."""
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
        (errno.ENAMETOOLONG, "a name is too long"),
    ],
)
def test_system_errors_become_input_errors(number: int, message: str) -> None:
    """With the reason, the path and a hint."""
    with pytest.raises(InputError, match=message) as caught, translate_os_errors(Path("x/y.png")):
        raise OSError(number, os.strerror(number))
    assert "x/y.png" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("character", ["x", "\u00e9", "\U0001f600", "\udcff"])
def test_derived_names_fit_and_are_distinct(character: str, tmp_path: Path) -> None:
    """They are as before if they fit; otherwise they end as they should, and stay different.

    Characters of one to four bytes, and a byte that is not UTF-8, as file names may have.
    """
    assert "ada-swapped.mp4" == fit_name("ada", "-swapped.mp4")
    assert f".{character}.lock" == fit_name(character, ".lock", prefix=".")
    size = len(os.fsencode(character))
    for count in (240 // size, 255 // size):
        stem = character * count
        names = {fit_name(one, ".parts", prefix=".") for one in (stem, stem[:-1] + "a")}
        assert 2 == len(names)
        for name in names:
            assert (".", ".parts") == (name[0], name[-6:])
            assert len(os.fsencode(name)) <= 255
            (tmp_path / name).touch()
        assert fit_name(stem, ".parts", prefix=".") in names


@pytest.mark.parametrize("name", ["x" * 251 + ".txt", "\u00e9" * 125 + ".txt", "x" * 255])
def test_a_file_with_the_longest_name_can_be_written(name: str, tmp_path: Path) -> None:
    """Its temporary file has a name that fits as well."""
    path = tmp_path / name
    check_writable(path)
    write_text(path, "text")
    assert [path] == list(tmp_path.iterdir())


def test_a_name_that_no_file_can_have_is_refused_before_the_work(tmp_path: Path) -> None:
    """And not when the result is renamed, after hours."""
    with pytest.raises(InputError, match="a name is too long") as caught:
        check_writable(tmp_path / ("x" * 256))
    assert "255 bytes" in caught.value.hint


def test_other_system_errors_are_not_translated() -> None:
    """They are raised unchanged."""
    with pytest.raises(IsADirectoryError), translate_os_errors(Path("x")):
        raise IsADirectoryError(errno.EISDIR, "is a directory")


def test_paths_that_cannot_be_written_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parent that is a file or read-only; missing folders are accepted and not created."""
    check_writable(tmp_path / "not" / "yet" / "there.mp4")
    assert [] == list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not a folder"):
        check_writable(tmp_path / "file" / "out.mp4")
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    with pytest.raises(InputError, match="cannot write to"):
        check_writable(tmp_path / "new" / "out.mp4")


def test_lines_are_read_as_they_were_appended(tmp_path: Path) -> None:
    """With those of older versions, which have no checksum."""
    path = tmp_path / "log.jsonl"
    append_line(path, '{"old": 1}')
    append_json(path, {"name": "B\u00e4r", "value": 0.25})
    assert ([{"old": 1}, {"name": "B\u00e4r", "value": 0.25}], 0) == read_json_lines(path)
    assert ([], 0) == read_json_lines(tmp_path / "missing.jsonl")


def test_a_name_that_is_no_text_is_written(tmp_path: Path) -> None:
    """A line gives it back, a page shows its bytes."""
    name = os.fsdecode(b"\xe4da.mp4")
    append_json(tmp_path / "log.jsonl", {"source": name})
    assert ([{"source": name}], 0) == read_json_lines(tmp_path / "log.jsonl")
    write_text(tmp_path / "page.html", name)
    assert r"\udce4da.mp4" == (tmp_path / "page.html").read_text(encoding="utf-8")


def test_no_changed_line_is_read_with_another_value(tmp_path: Path) -> None:
    """Of all bits of a line each, and of all places at which it can be torn."""
    path = tmp_path / "log.jsonl"
    append_json(path, {"value": 0.25})
    whole = path.read_bytes()
    changed = [whole[:end] for end in range(1, len(whole) - 1)]
    for place, byte in enumerate(whole[:-1]):
        changed += [
            whole[:place] + bytes([byte ^ 1 << bit]) + whole[place + 1 :] for bit in range(8)
        ]
    for data in changed:
        path.write_bytes(data)
        entries, damaged = read_json_lines(path)
        assert damaged or entries[0]["value"] == 0.25, data


def test_a_text_with_a_digest_notices_any_change() -> None:
    """An older text, which has none, counts as unchanged."""
    text = add_digest(f"{DIGEST_NOTE}\nsize = 3\n")
    assert not has_changed(text)
    assert not has_changed("size = 3\n")
    assert has_changed(text.replace("3", "4", 1))
    assert has_changed(text[:-1])
    assert has_changed(f"{DIGEST_NOTE}\nsize = 3\n")
