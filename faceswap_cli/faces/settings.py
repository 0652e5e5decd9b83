"""What may be chosen of a set, and which choices make no sense; nothing of how it is made."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from types import MappingProxyType

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import ConfigurationError, did_you_mean
from faceswap_cli.core.types import Image
from faceswap_cli.faces.alignment import FRAMINGS, TEMPLATE_VERSION
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR, DETECTORS
from faceswap_cli.faces.selection import parse_selection
from faceswap_cli.faces.set_source import Section

CROP_ENCODERS: Mapping[str, Callable[[Image], bytes]] = MappingProxyType(
    {
        "png": partial(image_io.encode_png, is_photo=True),
        "jpeg": partial(image_io.encode_jpeg, quality=95),
    }
)
"""How crops are written, by name."""
FILE_EXTENSIONS: Mapping[str, str] = MappingProxyType({"png": "png", "jpeg": "jpg"})
"""Ends of their names."""

TRACKER_VERSION = 4
"""Changes whenever the same frames would give other faces."""


@dataclass(frozen=True, kw_only=True)
class ExtractSettings:
    """What is kept; fixed for the life of a set."""

    size_px: int = 256
    """Side of the crops, px."""
    framing: str = "face"
    """How much is around the face: a name in `FRAMINGS`."""
    format: str = "png"
    """How the crops are written: a name in `FORMATS`."""
    every: int = 1
    """Look at every n-th frame only."""
    fps: float | None = None
    """Look at so many frames a second at most; None: at all."""
    start_s: float = 0.0
    """Leave out what is shown before, seconds."""
    end_s: float | None = None
    """Leave out what is shown from then on, seconds; None: nothing."""
    max_faces: int | None = None
    """Stop when so many faces are kept; None: never."""
    faces: str = "largest"
    """Which faces are kept, as `parse_selection` reads it."""
    detector: str = DEFAULT_DETECTOR
    """What finds them: a name in `DETECTORS`."""


def validate_settings(settings: ExtractSettings) -> None:
    """Refuse settings that make no sense.

    Raises:
        ConfigurationError: One does not.
    """
    for kind, name, known in (
        ("face detector", settings.detector, DETECTORS),
        ("framing", settings.framing, FRAMINGS),
        ("picture format", settings.format, CROP_ENCODERS),
    ):
        if name not in known:
            raise ConfigurationError(
                f'there is no {kind} called "{name}"', hint=did_you_mean(name, known)
            )
    if settings.fps is not None and settings.every > 1:
        raise ConfigurationError(
            f"--fps {settings.fps:g} and --every {settings.every} say the same thing twice",
            hint="choose one of them",
        )
    if settings.fps is not None and not 0 < settings.fps < math.inf:
        raise ConfigurationError(
            f"{settings.fps:g} frames a second make no sense", hint="1 looks at one each second"
        )
    if not 16 <= settings.size_px <= 4096:
        raise ConfigurationError(
            f"crops cannot be {settings.size_px} px wide", hint="choose 16 to 4096; 256 is usual"
        )
    if settings.end_s is not None and settings.end_s <= settings.start_s:
        raise ConfigurationError(
            f"the end, {settings.end_s:g} s, is not after the start, {settings.start_s:g} s",
            hint="both count from the beginning of the video",
        )
    if settings.every < 1:
        raise ConfigurationError(
            f"every {settings.every} frames makes no sense", hint="1 looks at every frame"
        )


def settings_fingerprint(settings: ExtractSettings) -> Section:
    """Return what makes the settings of two extractions the same."""
    chosen = {key: value for key, value in asdict(settings).items() if value is not None}
    return {
        **chosen,
        "faces": parse_selection(settings.faces).canonical_text(),
        "template": TEMPLATE_VERSION,
        "follower": TRACKER_VERSION,
    }
