"""Verify: what a file says of itself, whether that still holds, and what it does not prove."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import starmap
from pathlib import Path

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError
from faceswap_cli.provenance.claim import COMPOSITE, Claim
from faceswap_cli.provenance.credentials import (
    Credentials,
    ValidationState,
    can_hold_credentials,
    read_credentials,
)
from faceswap_cli.provenance.sidecar import Sidecar, read_sidecar
from faceswap_cli.provenance.xmp import has_swap_metadata
from faceswap_cli.video.probe import open_media
from faceswap_cli.video.source import IMAGE_SUFFIXES

EXIT_NO_CREDENTIALS = 7
"""Exit code: neither credentials nor a sidecar. That says nothing of how the file was made."""
EXIT_MODIFIED = 8
"""Exit code: what was signed is not what is there."""


@dataclass(frozen=True, kw_only=True)
class VerificationResult:
    """What a file says of itself."""

    path: Path
    credentials: Credentials | None
    """What is in the file."""
    sidecar: Sidecar | None
    """What is beside it."""
    has_swap_metadata: bool
    """Whether its ordinary metadata, which anybody can write, says that it is a swap."""

    @property
    def is_signed(self) -> bool:
        """Whether anything signed was found."""
        return self.credentials is not None or self.sidecar is not None

    @property
    def is_intact(self) -> bool:
        """Whether all that was found still holds."""
        return (self.credentials is None or self.credentials.state is ValidationState.INTACT) and (
            self.sidecar is None or (self.sidecar.matches and self.sidecar.is_intact)
        )

    @property
    def is_swap(self) -> bool:
        """Whether it is said that a face was replaced."""
        return self.sidecar is not None or (
            self.credentials is not None and self.credentials.is_swap
        )

    @property
    def claim(self) -> Claim | None:
        """What faceswap says of its work: what is in the file goes before what is beside it."""
        inside = self.credentials.claim if self.credentials else None
        return inside or (self.sidecar.claim if self.sidecar else None)

    @property
    def exit_code(self) -> int:
        """0 if all that was found holds."""
        if not self.is_signed:
            return EXIT_NO_CREDENTIALS
        return 0 if self.is_intact else EXIT_MODIFIED

    @property
    def summary_line(self) -> str:
        """The answer in one line."""
        if not self.is_signed:
            return "no credentials found"
        what = "a face was replaced by a trained model"
        if not self.is_swap:
            what = "credentials, which do not speak of a trained model"
        since = (
            "not changed since it was signed" if self.is_intact else "CHANGED SINCE IT WAS SIGNED"
        )
        return f"{what}; {since}"

    def to_table(self) -> dict[str, str]:
        """Return the verdict by name, in plain words."""
        facts = {"in the file": self._describe_embedded(), "beside it": self._describe_sidecar()}
        if signer := self._describe_signer():
            facts["signed by"] = signer
        if self.has_swap_metadata:
            facts["its metadata"] = "says that it is a swap (not signed: anybody can write it)"
        if claim := self.claim:
            facts |= _describe_claim(claim)
        if not self.is_signed:
            facts["this means"] = (
                "nothing either way: credentials are lost when a file is cut, encoded again or sent"
                " through most services"
            )
        return facts

    def to_dict(self) -> dict[str, object]:
        """Return the verdict for programs."""
        inside, beside = self.credentials, self.sidecar
        return {
            "file": str(self.path),
            "found": self.is_signed,
            "swap": self.is_swap,
            "intact": self.is_intact if self.is_signed else None,
            "credentials": {**asdict(inside), "state": inside.state.value} if inside else None,
            "sidecar": asdict(beside) if beside else None,
            "metadata_says_swap": self.has_swap_metadata,
        }

    def _describe_embedded(self) -> str:
        """Say what the file itself holds."""
        if self.credentials is None:
            lacks = "" if can_hold_credentials(self.path) else ", and its kind cannot hold any"
            return f"no Content Credentials{lacks}"
        held = self.credentials
        if held.state is ValidationState.INTACT:
            return f"Content Credentials of {held.made_with}: intact"
        why = ", ".join(held.problems) or "no reason given"
        word = (
            "the file was changed"
            if held.state is ValidationState.CHANGED
            else "they cannot be checked"
        )
        return f"Content Credentials of {held.made_with}: {word} ({why})"

    def _describe_sidecar(self) -> str:
        """Say what the sidecar comes to."""
        if self.sidecar is None:
            return "no provenance file"
        if not self.sidecar.is_intact:
            return f"{self.sidecar.path.name}: it was changed after it was signed"
        if not self.sidecar.matches:
            return f"{self.sidecar.path.name}: it speaks of another file, or this one was changed"
        return f"{self.sidecar.path.name}: matches"

    def _describe_signer(self) -> str:
        """Say whose key signed, and what that is worth."""
        signed = self.credentials or self.sidecar
        if signed is None:
            return ""
        whose = "of this installation" if signed.is_own else "of another installation"
        if not signed.is_own and "local key" not in signed.signer:
            whose = "which this program has no list to look up in"
        return f"{signed.signer}, {whose}: it proves no person"


def verify(path: Path) -> VerificationResult:
    """Read what a file says of itself, in it and beside it.

    Raises:
        InputError: It is not there, is no video or picture, or what it holds cannot be read.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder", hint="name one video or picture")
    marked = _has_swap_metadata(path)
    return VerificationResult(
        path=path,
        credentials=read_credentials(path),
        sidecar=read_sidecar(path),
        has_swap_metadata=marked,
    )


def _has_swap_metadata(path: Path) -> bool:
    """Say whether a file's ordinary metadata speaks of a swap.

    Raises:
        InputError: It is neither a picture nor a video.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        image_io.read_image(path)
        return has_swap_metadata(path.read_bytes())
    with open_media(path) as container:
        return any(COMPOSITE in text for text in container.metadata.values())


def _describe_claim(claim: Claim) -> Mapping[str, str]:
    """Return what faceswap says of its work, in words."""
    consent = "a statement is recorded for everybody the model learned from"
    if not claim.consent:
        consent = "no statement is recorded for everybody the model learned from"
    pixels = f"replaced in {claim.swapped:,} of {claim.frames:,} frames"
    return {
        "the face": pixels if claim.frames > 1 else "replaced in this picture",
        "made with": ", ".join(f"{name} {version}" for name, version in claim.versions.items()),
        "model": f"SHA-256 {claim.model}",
        "made from": f"SHA-256 {claim.source}" if claim.source else "more than one file",
        "consent": consent,
        "settings": ", ".join(starmap(_format_setting, claim.settings.items())),
    }


def _format_setting(name: str, value: object) -> str:
    """Return a setting as a user would say it; one of another version of the program too."""
    said = f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, bool):
        said = "yes" if value else "no"
    elif value is None:
        said = "the usual one"
    return f"{name.replace('_', ' ')}: {said}"
