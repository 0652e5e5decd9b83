"""Which outputs are finished: `FinishedLog`, so that the same command makes only what is left."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from faceswap_cli.core.fileio import append_json, read_json_lines, sha256_file

LOG_NAME = ".faceswap-finished.jsonl"
"""Name of the file beside the outputs."""


class FinishedLog:
    """What was converted into a folder: a hidden file with a line for each output.

    Args:
        folder: The folder; may be missing.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG_NAME
        """The file."""

    def find(self, output: Path, *, key: str) -> Mapping[str, Any] | None:
        """Return the summary of a finished output in the folder.

        None if it was made otherwise (with another `key`), deleted or changed since.

        Raises:
            InputError: The output cannot be read.
        """
        entry = self._read().get(output.name, {})
        is_same = entry.get("key") == key and entry.get("sha256") == _digest_output(output)
        return entry.get("summary") if is_same else None

    def clip(self, output: Path) -> Mapping[str, Any]:
        """Return what an output was made from, as given to `make_entry`; empty if unknown."""
        clip = self._read().get(output.name, {}).get("clip")
        return clip if isinstance(clip, dict) else {}

    def make_entry(
        self,
        output: Path,
        *,
        key: str,
        summary: Mapping[str, Any],
        clip: Mapping[str, str | float | None] = MappingProxyType({}),
    ) -> Mapping[str, Any]:
        """Return the entry of a finished output, for `append`.

        Args:
            output: A file or folder in the folder.
            key: Digest of all that it depends on.
            summary: What `find` returns.
            clip: The video that it was made from: `source`, `start_s` and `end_s`.
        """
        return {
            "output": output.name,
            "sha256": _digest_output(output),
            "key": key,
            "summary": summary,
            "clip": dict(clip),
        }

    def append(self, entry: Mapping[str, Any]) -> None:
        """Record a finished output."""
        append_json(self.path, entry, durable=True)

    def _read(self) -> dict[str, dict[str, Any]]:
        """Return the last entry of each output; a torn or damaged line is as good as none."""
        entries, _ = read_json_lines(self.path)
        return {one["output"]: one for one in entries if isinstance(one.get("output"), str)}


def _digest_output(output: Path) -> str | None:
    """Return a digest of a file, or of the files in a folder; None if there is nothing.

    Hidden files are left out: file managers add some to the folders that they show.
    """
    if not output.is_dir():
        return sha256_file(output) if output.exists() else None
    paths = sorted(path for path in output.rglob("[!.]*") if path.is_file())
    files = [(path.relative_to(output).as_posix(), sha256_file(path)) for path in paths]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()
