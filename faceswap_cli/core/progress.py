"""How a stage speaks without printing: a Reporter hears it, the terminal decides how it looks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

Number = int | float | str


class Reporter(Protocol):
    """Listens to one stage at a time."""

    def start_task(self, title: str, *, total: float | None, unit: str) -> None:
        """Begin a piece of work of `total` units (None: unknown), ending the one before."""

    def update(self, done: float, numbers: Mapping[str, Number] | None = None) -> None:
        """`done` units are finished in all; `numbers` are shown beside the bar."""

    def show_image(self, path: Path, caption: str) -> None:
        """Say that a picture was written that the user may want to look at."""

    def note(self, text: str) -> None:
        """Say one line that should stay on the screen."""

    def show_values(self, title: str, values: Mapping[str, str]) -> None:
        """Say some facts by name that should stay on the screen."""


class SilentReporter:
    """A reporter that shows nothing: for `--quiet` and for tests."""

    def start_task(self, title: str, *, total: float | None, unit: str) -> None:
        """Hear nothing."""

    def update(self, done: float, numbers: Mapping[str, Number] | None = None) -> None:
        """Hear nothing."""

    def show_image(self, path: Path, caption: str) -> None:
        """Hear nothing."""

    def note(self, text: str) -> None:
        """Hear nothing."""

    def show_values(self, title: str, values: Mapping[str, str]) -> None:
        """Hear nothing."""
