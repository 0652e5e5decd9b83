"""The run's numbers and sheets as TensorBoard events, where TensorBoard is installed."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from faceswap_cli.arrays import Image


class Board(Protocol):
    """Takes numbers and pictures, each at its images seen."""

    def numbers(self, values: Mapping[str, float], *, about: str, images_seen: int) -> None:
        """Take numbers, shown together under `about`."""

    def picture(self, image: Image, *, images_seen: int) -> None:
        """Take a sheet."""

    def close(self) -> None:
        """Put everything on the disk."""


class NoBoard:
    """For when TensorBoard is not installed."""

    def numbers(self, values: Mapping[str, float], *, about: str, images_seen: int) -> None:
        """Forget numbers."""

    def picture(self, image: Image, *, images_seen: int) -> None:
        """Forget a picture."""

    def close(self) -> None:
        """Do nothing."""


class TensorBoard:
    """Writes event files.

    Args:
        folder: Where they go.
        begin: Images seen at the beginning of this sitting: what an earlier one, killed after its
            last save, wrote beyond that is not shown.
    """

    def __init__(self, folder: Path, *, begin: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes two seconds

        self.writer: Any = SummaryWriter(str(folder), purge_step=begin)

    def numbers(self, values: Mapping[str, float], *, about: str, images_seen: int) -> None:
        """Write numbers."""
        for name, value in values.items():
            self.writer.add_scalar(f"{about}/{name}", value, images_seen)

    def picture(self, image: Image, *, images_seen: int) -> None:
        """Write a sheet."""
        self.writer.add_image("sheet", image, images_seen, dataformats="HWC")

    def close(self) -> None:
        """Put everything on the disk."""
        self.writer.close()


def open_board(folder: Path, *, begin: int) -> Board:
    """Return a board that writes to `folder` if TensorBoard is installed, else one that forgets."""
    installed = find_spec("tensorboard") is not None
    return TensorBoard(folder, begin=begin) if installed else NoBoard()
