"""Errors that a user can cause and fix, each with a hint and an exit code."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from faceswap_models.plugins import PluginError


class FaceswapError(Exception):
    """An error that the user can fix.

    Args:
        message: What happened, one line, in the user's words.
        hint: What to do or type next, one line; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def describe(self, name: str) -> str:
        """Return the message, with the name of the input that it is about."""
        return self.message if name in self.message else f"{name}: {self.message}"

    def to_dict(self) -> dict[str, object]:
        """Return message, hint and exit code, for JSON."""
        return {"error": self.message, "hint": self.hint, "exit_code": self.exit_code}


class ConfigurationError(FaceswapError):
    """A name or a setting that does not exist or is not valid."""

    exit_code = 2


class InputError(FaceswapError):
    """A file or folder that cannot be read or written."""

    exit_code = 3


class NoFacesError(FaceswapError):
    """No face was found in the input."""

    exit_code = 4


class DeviceError(FaceswapError):
    """The requested device does not exist or has too little memory."""

    exit_code = 5


class CheckpointError(FaceswapError):
    """A checkpoint or trained model that is damaged or does not fit the request."""

    exit_code = 6


MEMORY_ERROR_TEXTS = (
    "can't allocate memory",  # torch, on a CPU
    "Cannot allocate memory",  # the system
    "can't start new thread",  # Python: a thread needs a stack
    "cannot allocate memory",  # the loader of libraries
    "failed to map segment",  # the same
    "Insufficient memory",  # OpenCV
    "could not create a primitive",  # oneDNN
)
"""What is said of memory that ran out by errors that are no `MemoryError`."""


def is_memory_error(error: BaseException) -> bool:
    """Return whether an error means that the computer's memory ran out."""
    return isinstance(error, MemoryError) or any(one in str(error) for one in MEMORY_ERROR_TEXTS)


EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C; finished work is saved."""


@contextmanager
def translate_plugin_errors() -> Iterator[None]:
    """Translate the error for what another package adds and cannot be used.

    Raises:
        ConfigurationError: It cannot.
    """
    try:
        yield
    except PluginError as error:
        raise ConfigurationError(str(error), hint="update that package, or remove it") from error


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return `did you mean "x"?`, or the list of known names, or an empty string."""
    choices = sorted(known)
    if close := get_close_matches(wrong, choices, n=1, cutoff=0.5):
        return f'did you mean "{close[0]}"?'
    return f"there is: {', '.join(choices)}" if choices else ""
