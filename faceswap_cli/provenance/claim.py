"""What is said of a finished file, in words and numbers; nothing of how it is signed or read back.

It holds digests in place of files, and neither names, paths, faces nor what is measured of faces:
a claim travels with the video to people who were never meant to know them.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

from faceswap_cli import __version__

DISCLOSURE = "A face was replaced by a trained model"
"""The one sentence that every mark carries, whatever it is written in."""
PROGRAM = "faceswap"
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's word for a recording of which a part was made by a trained model."""

Value: TypeAlias = str | int | float | bool | None

_REPORTED_PACKAGES = ("torch", "opencv-python", "av", "mediapipe", "ai-edge-litert", "c2pa-python")
"""Packages that decide what a result looks like."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What was done to make a file. Digests are SHA-256 in hexadecimal digits."""

    frames: int
    """Frames in the file; 1 for a picture."""
    swapped: int
    """Frames of them in which a face was replaced."""
    model: str
    """Digest of the file of trained weights."""
    source: str | None = None
    """Digest of the file that was converted; None where it is not one file."""
    sets: tuple[str, ...] = ()
    """Digest of each set of faces that the model was trained on, one a person."""
    consent: bool = False
    """Whether a statement of consent is recorded with every one of those sets."""
    consent_sha256: str | None = None
    """Digest of those statements."""
    settings: Mapping[str, Value] = field(default_factory=dict)
    """What was chosen, in words and numbers."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the program and of what it stands on."""

    def __post_init__(self) -> None:
        """Refuse what looks like a place on somebody's machine: our own mistake, not the user's."""
        for name, value in self.settings.items():
            assert not (isinstance(value, str) and ("/" in value or "\\" in value)), (
                f"the setting {name} looks like a path, which a claim must not carry"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the claim as JSON has it."""
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
        """Read a claim back.

        Raises:
            KeyError, TypeError, ValueError: It is of another kind.
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
    """Return the versions of the program and of what decides its results."""
    return {PROGRAM: __version__, "python": platform.python_version()} | {
        name: found for name in _REPORTED_PACKAGES if (found := _installed_version(name))
    }


def metadata_comment() -> str:
    """Return what the metadata of a container says: for people, and for programs that read it."""
    return f"{DISCLOSURE} ({PROGRAM} {__version__}). {COMPOSITE}"


def _installed_version(package: str) -> str:
    """Return a package's version, or nothing where it is not installed under that name."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
