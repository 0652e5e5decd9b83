"""How a field of a settings dataclass is entered: the command line's options are made from it."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """Describes a field: `size_px: Annotated[int, Option("Side, px.", flags="--size")] = 256`.

    A field without one cannot be set on the command line.
    """

    help: str
    """What the field is; both its documentation and its line in `--help`."""
    _: KW_ONLY
    flags: str = ""
    """Names, such as `--quiet -q`; empty: the field's name, and for a switch that is on by
    default its opposite, `--mouth/--no-mouth`."""
    metavar: str = ""
    """What stands for the value in `--help`."""
    panel: str = ""
    """Heading in `--help`; empty: the general one."""
    minimum: float | None = None
    """Smallest value that can be entered."""
    parser: Callable[[str], Any] | None = None
    """Returns the value of what is entered, or raises `ValueError`; None: by the field's type."""
