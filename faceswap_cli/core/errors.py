"""Every error a user can cause: what happened, what to type next, and the exit code."""

from collections.abc import Iterable
from difflib import get_close_matches


class FaceswapError(Exception):
    """Something the user can mend.

    Args:
        message: What happened, one line, in the user's words.
        hint: What to do or type about it, one line; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigurationError(FaceswapError):
    """A name or a setting that does not exist, or does not fit."""

    exit_code = 2


class InputError(FaceswapError):
    """A file or folder that cannot be read or written as asked."""

    exit_code = 3


class NoFacesError(FaceswapError):
    """The footage was read, and no face was found in it."""

    exit_code = 4


class DeviceError(FaceswapError):
    """The device asked for is not there, or is too small."""

    exit_code = 5


class CheckpointError(FaceswapError):
    """A trained model that is damaged, or does not fit what is asked of it."""

    exit_code = 6


EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C: what was finished is kept."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return `did you mean "x"?`, or the list of what there is, or an empty string."""
    choices = sorted(known)
    if close := get_close_matches(wrong, choices, n=1, cutoff=0.5):
        return f'did you mean "{close[0]}"?'
    return f"there is: {', '.join(choices)}" if choices else ""
