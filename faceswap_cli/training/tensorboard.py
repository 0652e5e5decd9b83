"""The run's numbers and sheets as TensorBoard events, where TensorBoard is installed."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from faceswap_cli.core.types import Image


class MetricWriter(Protocol):
    """Takes numbers and pictures, each at its images seen."""

    def add_scalars(self, scalars: Mapping[str, float], *, group: str, images_seen: int) -> None:
        """Take numbers, shown together under `group`."""

    def add_image(self, image: Image, *, images_seen: int) -> None:
        """Take a sheet."""

    def close(self) -> None:
        """Put everything on the disk."""


class NullMetricWriter:
    """For when TensorBoard is not installed."""

    def add_scalars(self, scalars: Mapping[str, float], *, group: str, images_seen: int) -> None:
        """Forget numbers."""

    def add_image(self, image: Image, *, images_seen: int) -> None:
        """Forget a picture."""

    def close(self) -> None:
        """Do nothing."""


class TensorBoardWriter:
    """Writes event files.

    Args:
        folder: Where they go.
        purge_step: Images seen at the beginning of this sitting: what an earlier one, killed after its
            last save, wrote beyond that is not shown.
    """

    def __init__(self, folder: Path, *, purge_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes two seconds

        self.writer: Any = SummaryWriter(str(folder), purge_step=purge_step)

    def add_scalars(self, scalars: Mapping[str, float], *, group: str, images_seen: int) -> None:
        """Write numbers."""
        for name, value in scalars.items():
            self.writer.add_scalar(f"{group}/{name}", value, images_seen)

    def add_image(self, image: Image, *, images_seen: int) -> None:
        """Write a sheet."""
        self.writer.add_image("sheet", image, images_seen, dataformats="HWC")

    def close(self) -> None:
        """Put everything on the disk."""
        self.writer.close()


def open_metric_writer(folder: Path, *, purge_step: int) -> MetricWriter:
    """Return a board that writes to `folder` if TensorBoard is installed, else one that forgets."""
    installed = find_spec("tensorboard") is not None
    return TensorBoardWriter(folder, purge_step=purge_step) if installed else NullMetricWriter()
