"""Where the inputs of a command are processed: `ParallelSettings`.

Imports nothing heavy: the command line makes its options from it.
"""

from dataclasses import dataclass
from typing import Annotated

from faceswap_cli.core.option import Option

SEVERAL_INPUTS = "Several inputs"


@dataclass(frozen=True, kw_only=True)
class ParallelSettings:
    """How many inputs are processed at a time; the results do not depend on it."""

    workers: Annotated[
        int | None,
        Option(
            "Processes that work at a time, on an input or a part of a long one each; default: by "
            "cores, memory and GPUs.",
            metavar="N",
            panel=SEVERAL_INPUTS,
            minimum=1,
        ),
    ] = None
    on: Annotated[
        str | None,
        Option(
            "Run on a Ray cluster: the one of this machine, or the one at ADDRESS.",
            metavar="ray[:ADDRESS]",
            panel=SEVERAL_INPUTS,
        ),
    ] = None
    """None: on this machine."""


ONE_PROCESS = ParallelSettings(workers=1)
"""One input after the other, in this process."""
