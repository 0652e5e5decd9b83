"""Which outputs are finished: `FinishedLog`, so that the same command makes only what is left."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from faceswap_cli.core.fileio import append_line

LOG_NAME = ".faceswap-finished.jsonl"
"""Name of the file beside the outputs."""


class FinishedLog:
    """What was converted into a folder: a hidden file with a line for each output.

    Args:
        folder: The folder; may be missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, output: Path, *, key: str) -> Mapping[str, Any] | None:
        """Return the summary of a finished output in the folder.

        None if it was made otherwise (with another `key`), deleted or replaced since.
        """
        entry = self._read().get(output.name, {})
        is_same = entry.get("key") == key and entry.get("bytes") == _count_bytes(output)
        return entry["summary"] if is_same else None

    def add(self, output: Path, *, key: str, summary: Mapping[str, Any]) -> None:
        """Record a finished output."""
        entry = {
            "output": output.name,
            "bytes": _count_bytes(output),
            "key": key,
            "summary": summary,
        }
        append_line(self._folder / LOG_NAME, json.dumps(entry, default=str))

    def _read(self) -> dict[str, dict[str, Any]]:
        """Return the last entry of each output; a torn line is as good as none."""
        entries = {}
        with suppress(OSError):
            for line in (self._folder / LOG_NAME).read_text(encoding="utf-8").splitlines():
                with suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    entries[entry["output"]] = entry
        return entries


def _count_bytes(output: Path) -> int | None:
    """Return the size of a file, or of the files in a folder; None if there is nothing."""
    if output.is_dir():
        return sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    return output.stat().st_size if output.exists() else None
