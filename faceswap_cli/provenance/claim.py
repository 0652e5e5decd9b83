"""`Claim`: how a finished file was made.

A claim is published with the video, so it has digests instead of names and paths, and nothing about
the faces themselves.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

from faceswap_cli import __version__

DISCLOSURE = "A face was replaced by a trained model"
"""The sentence of every disclosure: credentials, sidecar and metadata."""
PROGRAM = "faceswap"
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's digital source type of a recording of which a part was made by a trained model."""

Value: TypeAlias = str | int | float | bool | None

_REPORTED_PACKAGES = ("torch", "opencv-python", "av", "mediapipe", "ai-edge-litert", "c2pa-python")
"""Packages whose version affects the result."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """How a file was made. Digests are SHA-256 in hexadecimal digits."""

    frames: int
    """Number of frames in the file; 1 for an image."""
    swapped: int
    """Number of frames in which a face was replaced."""
    model: str
    """Digest of the file of trained weights."""
    source: str | None = None
    """Digest of the converted file; None if it is not one file."""
    sets: tuple[str, ...] = ()
    """Digest of each set of faces that the model was trained on."""
    consent: bool = False
    """Whether a statement of consent is recorded with every one of those sets."""
    consent_sha256: str | None = None
    """Digest of those statements."""
    settings: Mapping[str, Value] = field(default_factory=dict)
    """Settings of the conversion."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the program, of Python, and of the packages that affect the result."""

    def __post_init__(self) -> None:
        """Assert that no setting is a path: that would be a bug of the program."""
        for name, value in self.settings.items():
            assert not (isinstance(value, str) and ("/" in value or "\\" in value)), (
                f"the setting {name} looks like a path, which a claim must not have"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the claim in plain JSON values."""
        return {
            "frames": self.frames,
            "swapped": self.swapped,
            "model": self.model,
            "source": self.source,
            "sets": list(self.sets),
            "consent": self.consent,
            "consent_sha256": self.consent_sha256,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Claim":
        """Return the claim of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: The fields are not those of a claim.
        """
        return cls(
            frames=int(fields["frames"]),
            swapped=int(fields["swapped"]),
            model=str(fields["model"]),
            source=None if fields["source"] is None else str(fields["source"]),
            sets=tuple(map(str, fields["sets"])),
            consent=bool(fields["consent"]),
            consent_sha256=(
                None if fields["consent_sha256"] is None else str(fields["consent_sha256"])
            ),
            settings=dict(fields["settings"]),
            versions=dict(fields["versions"]),
        )


def package_versions() -> dict[str, str]:
    """Return the versions of the program and of the packages that affect its results."""
    return {PROGRAM: __version__, "python": platform.python_version()} | {
        name: installed for name in _REPORTED_PACKAGES if (installed := _installed_version(name))
    }


def metadata_comment() -> str:
    """Return the comment for a container's metadata, for people and for programs."""
    return f"{DISCLOSURE} ({PROGRAM} {__version__}). {COMPOSITE}"


def _installed_version(package: str) -> str:
    """Return a package's version, or an empty string if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
