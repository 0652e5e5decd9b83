"""How stages report progress without printing: they call a `Reporter`; `Terminal` shows it."""

from collections.abc import Mapping
from pathlib import Path

Number = int | float | str


class Reporter:
    """Receives the progress of one task at a time. This one shows nothing; others override it."""

    def start_task(self, title: str, *, total: float | None, unit: str) -> None:
        """Begin a task of `total` units (None: unknown), ending the one before."""

    def update(self, done: float, numbers: Mapping[str, Number] | None = None) -> None:
        """Report that `done` units are finished in all; `numbers` are shown beside the bar."""

    def show_image(self, path: Path, caption: str) -> None:
        """Report that an image was written that the user may want to look at."""

    def note(self, text: str) -> None:
        """Report one line that should stay on the screen."""

    def show_values(self, title: str, values: Mapping[str, str]) -> None:
        """Report values by name that should stay on the screen."""
