"""Atomic writes (a temporary file, a flush, one rename); digests, names and errors of files."""

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from faceswap_cli.core.errors import InputError

FINGERPRINT_BYTES = 1 << 20
"""Bytes of either end of a file that its fingerprint reads: clips can be many gigabytes."""
MAX_NAME_BYTES = 255
"""Length of the longest name that the usual file systems take, without the folders before it."""
REPLACE_ATTEMPTS, REPLACE_PAUSE_S = 20, 0.05
"""How often, and how far apart in seconds, Windows is asked to replace a file that is open."""
_RANDOM_BYTES = 8
"""Of a name that `tempfile` makes, between prefix and suffix."""
DIGEST_NOTE = "# A digest of all lines before it is in the last one."
"""A line of every text of `add_digest`, so that a text that has lost its last line is known."""
_DIGEST_MARK = "\n# sha256 "
_kept_folders: list[Path] = []
"""Absolute paths of `keep_folder`."""
_CHECKED_LINE = re.compile(r'(\{.+), "crc32": "([0-9a-f]{8})"\}')
"""A line of `append_json`."""


class DamagedFileError(InputError):
    """A file that has changed since it was written.

    Args:
        path: The file.
        hint: What to do.
    """

    def __init__(self, path: Path, *, hint: str = "") -> None:
        super().__init__(f"{path} is damaged", hint=hint)
        self.path = path


@contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to `path`; on success flush it and rename it to `path`.

    A reader therefore sees the old file or the new one, never a partial one, and a failure of any
    kind leaves the old file unchanged.

    Args:
        path: The file.
        durable: Wait until it is on the disk. False for one of thousands of files, which the
            caller flushes together.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    with translate_os_errors(path):
        make_folder(path.parent)
        handle, name = tempfile.mkstemp(
            prefix=temp_prefix(path, path.suffix), suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
    temporary = Path(name)
    try:
        with translate_os_errors(path):
            yield temporary
            if durable:
                fsync(temporary)
            temporary.chmod(0o666 & ~_umask())
            _replace(temporary, path)
            if durable:
                fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _replace(temporary: Path, path: Path) -> None:
    """Rename a file over another one; on Windows wait a little for a program that reads that one.

    There a file cannot be replaced while it is open, as by a browser that loads a page.

    Raises:
        OSError: The file cannot be renamed.
    """
    if sys.platform == "win32":
        for _ in range(REPLACE_ATTEMPTS - 1):
            with suppress(PermissionError):
                temporary.replace(path)
                return
            time.sleep(REPLACE_PAUSE_S)
    temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """Replace the file at `path` by `text` in UTF-8; what is no text in a name is escaped."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace the file at `path` by JSON, with a digest of it in the second line."""
    text = json.dumps(content)
    write_text(path, f"{text}\n{_digest_line(text)}\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of `write_json`, or of JSON alone, as older versions wrote it.

    Raises:
        FileNotFoundError: There is none.
        DamagedFileError: It has changed since it was written, or cannot be read.
    """
    with _translate_damage(path):
        text, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
        if lines and lines != [_digest_line(text)]:
            raise ValueError("it has changed")
        return _parse_object(text)


def write_document(path: Path, content: Mapping[str, Any]) -> None:
    """Replace the file at `path` by JSON for people and other programs.

    Its last key is a digest of the others, which reformatting does not change.
    """
    document = {**content, "sha256": _digest_object(content)}
    write_text(path, json.dumps(document, indent=1) + "\n")


def read_document(path: Path) -> dict[str, Any]:
    """Read a file of `write_document`; those of older versions have no digest.

    Raises:
        FileNotFoundError: There is none.
        DamagedFileError: It has changed since it was written, or cannot be read.
    """
    with _translate_damage(path):
        content = _parse_object(path.read_text(encoding="utf-8"))
        digest = content.pop("sha256", None)
        if digest is not None and digest != _digest_object(content):
            raise ValueError("it has changed")
        return content


@contextmanager
def _translate_damage(path: Path) -> Iterator[None]:
    """Translate the errors of reading and parsing a file that is there to a `DamagedFileError`."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedFileError(path) from error


def _parse_object(text: str) -> dict[str, Any]:
    """Return the object of a JSON text.

    Raises:
        ValueError: It is none.
    """
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("it is no object")
    return content


def _digest_object(content: Mapping[str, Any]) -> str:
    """Return a digest of what JSON has, in any format and order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def add_digest(text: str) -> str:
    """Return a text with its digest in one more line, a comment in TOML; it has `DIGEST_NOTE`."""
    assert DIGEST_NOTE in text
    return f"{text}{_DIGEST_MARK}{hashlib.sha256(text.encode()).hexdigest()}\n"


def remove_digest(text: str) -> str:
    """Return a text of `add_digest` as it may be changed: without its digest and the note of it."""
    return (text.rpartition(_DIGEST_MARK)[0] or text).replace(f"{DIGEST_NOTE}\n", "")


def has_changed(text: str) -> bool:
    """Return whether a text of `add_digest` has changed; those of older versions have no digest."""
    body, mark, digest = text.rpartition(_DIGEST_MARK)
    is_checked = mark or DIGEST_NOTE in text
    return bool(is_checked) and f"{hashlib.sha256(body.encode()).hexdigest()}\n" != digest


def _digest_line(text: str) -> str:
    """Return the line with the digest of a text."""
    return f"sha256 {hashlib.sha256(text.encode()).hexdigest()}"


def hard_link_or_copy(path: Path, name: Path) -> None:
    """Make `name` a hard link to `path`, atomically; a copy if the file system has none."""
    with atomic_write(name) as temporary, translate_os_errors(name):
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:  # the file system has no hard links
            shutil.copyfile(path, temporary)


def fit_name(
    stem: str, suffix: str = "", *, prefix: str = "", max_bytes: int = MAX_NAME_BYTES
) -> str:
    """Return `prefix + stem + suffix`, with the end of the stem replaced if that is too long.

    A digest of the stem replaces it: the same name each time, and another one for another stem.

    Args:
        stem: What a name is derived from, such as the name of another file.
        suffix: What is added at the end, and is never shortened.
        prefix: What is added at the beginning.
        max_bytes: Length of the result, at most.
    """
    encoded = os.fsencode(stem)
    room = max_bytes - len(os.fsencode(prefix)) - len(os.fsencode(suffix))
    if len(encoded) > room:
        digest = f"-{hashlib.sha256(encoded).hexdigest()[:8]}"
        # Half a character at the cut is dropped.
        stem = encoded[: max(0, room - len(digest))].decode("utf-8", "ignore") + digest
    return f"{prefix}{stem}{suffix}"


def temp_prefix(path: Path, suffix: str = "") -> str:
    """Return how the names of a path's temporary files begin, if they end in `suffix`."""
    max_bytes = MAX_NAME_BYTES - _RANDOM_BYTES - len(os.fsencode(suffix))
    return fit_name(path.stem, "-", prefix=".", max_bytes=max_bytes)


def remove_temp_files(path: Path) -> None:
    """Delete the temporary files that a process left which was killed while it wrote `path`."""
    prefix, suffix = temp_prefix(path, path.suffix), path.suffix
    for one in path.parent.glob(f"{glob.escape(prefix)}{'?' * _RANDOM_BYTES}{glob.escape(suffix)}"):
        one.unlink(missing_ok=True)


def fingerprint(path: Path) -> dict[str, str | int]:
    """Return the identity of a large file: its size and a digest of its two ends."""
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(FINGERPRINT_BYTES))
        file.seek(max(file.tell(), size - FINGERPRINT_BYTES))
        digest.update(file.read())
    return {"bytes": size, "sha256_of_ends": digest.hexdigest()}


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a whole file, in hexadecimal digits.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def fsync(path: Path) -> None:
    """Flush a file, or a folder's entries, to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a folder; the rename is durable without it
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, so that they outlast a power cut.

    A file's own flush does not promise that the folders above it are still there.

    Raises:
        FileNotFoundError: It, or one above it, is kept by `keep_folder` and was removed.
        OSError: It cannot be created.
    """
    if folder.absolute() in _kept_folders:
        folder.stat()
        return
    try:
        folder.mkdir()
    except FileNotFoundError:
        if folder.parent == folder:  # a drive that is not there
            raise
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
    except OSError:  # of a folder that is there systems raise several ones
        if not folder.is_dir():
            raise
        return
    with suppress(PermissionError):  # a folder that may be entered and not listed
        fsync(folder.parent)


@contextmanager
def keep_folder(folder: Path) -> Iterator[None]:
    """Do not create a folder again that is removed during the block: writing into it is an error.

    What was in it is lost, and a new folder with what is written from then on would look whole.

    Args:
        folder: It exists.
    """
    path = folder.absolute()
    _kept_folders.append(path)
    try:
        yield
    finally:
        _kept_folders.remove(path)


def removed_error(path: object) -> InputError:
    """Return the error for a file or folder that somebody removed while a command used it."""
    return InputError(
        f"{path} is gone: it was removed while it was in use",
        hint="run the same command again: what is left of its work is used",
    )


def check_writable(path: Path) -> None:
    """Check that a path can be written, without writing anything.

    Raises:
        InputError: Its folder, or the nearest one that exists, cannot be written to, or its name is
            too long.
    """
    with translate_os_errors(path), suppress(FileNotFoundError, NotADirectoryError):
        path.lstat()
    folder = next(one for one in path.absolute().parents if one.exists())
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", hint="choose another path with --output")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {folder}", hint="choose another path with --output")


@contextmanager
def translate_removed_files() -> Iterator[None]:
    """Translate a file that is gone to an `InputError`: around the work of a whole stage.

    What a stage reads it has written or checked before, so somebody removed it meanwhile.

    Raises:
        InputError: A file, or its folder, was removed.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise removed_error(error.filename or "a file") from error


@contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Translate the system's errors of writing `path` to an `InputError`.

    Raises:
        InputError: The disk is full or read-only, a permission is missing, a parent of `path` is a
            file or was removed, or a name is too long.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOENT:
            for one in path.absolute().parents:
                if one in _kept_folders and not one.exists():
                    raise removed_error(one) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"no space left on the disk while writing {path}",
                hint="free some space, then run the same command again: finished work is saved",
            ) from error
        if error.errno == errno.EFBIG:
            raise InputError(
                f"{path} would exceed the file size limit of this disk or account",
                hint="choose another folder with --workspace or --output, or raise ulimit -f",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
            raise InputError(
                f"cannot write {path}: {os.strerror(error.errno or 0).lower()}",
                hint="choose another folder with --workspace or --output",
            ) from error
        if error.errno == errno.ENAMETOOLONG:
            raise name_too_long_error(path) from error
        if error.errno in (errno.EEXIST, errno.ENOTDIR):
            raise InputError(
                f"cannot write {path}: a part of that path is a file, not a folder",
                hint="choose another folder with --workspace or --output",
            ) from error
        raise


def name_too_long_error(path: Path | str) -> InputError:
    """Return the error for a path with a name that its disk does not take."""
    return InputError(
        f"a name is too long: {path}",
        hint=f"a file or folder can have a name of {MAX_NAME_BYTES} bytes at most, on some disks "
        "fewer: choose a shorter one",
    )


@cache
def _umask() -> int:
    """Return the process's file mode mask, which can only be read by setting it."""
    # Read once, at import: two threads doing this at a time would leave the process without a mask.
    mask = os.umask(0)
    os.umask(mask)
    return mask


_umask()


def append_line(path: Path, line: str, *, durable: bool = False) -> None:
    """Append a line to a text file; a line torn by a crash before it is closed first.

    Args:
        path: The file; created if it is missing.
        line: The line, without its end.
        durable: Wait until it is on the disk.
    """
    with translate_os_errors(path):
        make_folder(path.parent)
        with path.open("a+b") as file:
            if file.tell() > 0:
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(line.encode() + b"\n")
        if durable:
            fsync(path)
            fsync(path.parent)


def append_json(path: Path, content: Mapping[str, Any], *, durable: bool = False) -> None:
    """Append an object to a file of JSON lines, with the checksum of its line as the last key.

    Args:
        path: The file; created if it is missing.
        content: The object, which is not empty; what JSON does not know becomes text.
        durable: Wait until it is on the disk.
    """
    text = json.dumps(content, ensure_ascii=False, default=str)
    # A name that is no UTF-8 has surrogates: JSON's escapes of them look like Python's.
    text = text.encode("utf-8", "backslashreplace").decode()
    checksum = f', "crc32": "{zlib.crc32(text.encode()):08x}"}}'
    append_line(path, text[:-1] + checksum, durable=durable)


def read_json_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the objects in a file of `append_json`, and how many lines are torn or have changed.

    Lines of older versions have no checksum. A file that is missing, or cannot be read, has none.
    """
    found, damaged = [], 0
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found.append(_parse_line(line))
            except (ValueError, RecursionError):
                damaged += 1
    return found, damaged


def _parse_line(line: str) -> dict[str, Any]:
    """Return the object in a line of `append_json`, without the checksum.

    Raises:
        ValueError: It is torn, or has changed.
    """
    if match := _CHECKED_LINE.fullmatch(line):
        line = match[1] + "}"
        if zlib.crc32(line.encode()) != int(match[2], 16):
            raise ValueError("the checksum does not match")
    return _parse_object(line)


_FRACTION = re.compile(r"-?\d{1,40}(/\d{1,40})?")


def parse_fraction(text: str) -> Fraction:
    """Return a number that a file has as `1/25` or `3`.

    Raises:
        ValueError: It has another form: 1e999999999 would take all memory.
        TypeError: It is no text.
        ZeroDivisionError: It is divided by 0.
    """
    if not _FRACTION.fullmatch(text):
        raise ValueError(f"not a fraction: {text:.50}")
    return Fraction(text)


def check_disk_space(folder: Path, *, needed_bytes: int, what: str = "the run") -> int:
    """Refuse to fill a folder that does not fit on the disk; return the disk's free bytes.

    Args:
        folder: The folder; it need not exist, and files in it count.
        needed_bytes: Size that the folder will have.
        what: What is called too large.

    Raises:
        InputError: The disk's free space is less than what is still needed.
    """
    files = (path.stat() for path in folder.rglob("*") if path.is_file())
    missing = needed_bytes - sum({one.st_ino: one.st_size for one in files}.values())
    existing = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    free = shutil.disk_usage(existing).free
    if free < missing:
        raise InputError(
            f"{what} needs {format_bytes(missing)} more on the disk of {folder}, "
            f"which has {format_bytes(free)}",
            hint="free some space, or give a --workspace on another disk",
        )
    return free


def format_bytes(count: float) -> str:
    """Return a number of bytes as text, in MB or GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
