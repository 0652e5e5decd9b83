"""The verify command: read and check a file's credentials, sidecar and metadata."""

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
"""Exit code: neither credentials nor a sidecar. It proves nothing about how the file was made."""
EXIT_MODIFIED = 8
"""Exit code: the file was changed after it was signed."""


@dataclass(frozen=True, kw_only=True)
class VerificationResult:
    """The provenance of a file."""

    path: Path
    credentials: Credentials | None
    """Content Credentials in the file."""
    sidecar: Sidecar | None
    """Provenance file next to it."""
    has_swap_metadata: bool
    """Whether its unsigned metadata states that it is a swap."""

    @property
    def is_signed(self) -> bool:
        """Whether it has credentials or a sidecar."""
        return self.credentials is not None or self.sidecar is not None

    @property
    def is_intact(self) -> bool:
        """Whether credentials and sidecar, if any, are valid and match the file."""
        return (self.credentials is None or self.credentials.state is ValidationState.INTACT) and (
            self.sidecar is None or (self.sidecar.matches and self.sidecar.is_intact)
        )

    @property
    def is_swap(self) -> bool:
        """Whether credentials or sidecar state that a face was replaced."""
        return self.sidecar is not None or (
            self.credentials is not None and self.credentials.is_swap
        )

    @property
    def claim(self) -> Claim | None:
        """The claim in the credentials, otherwise the one in the sidecar."""
        embedded = self.credentials.claim if self.credentials else None
        return embedded or (self.sidecar.claim if self.sidecar else None)

    @property
    def exit_code(self) -> int:
        """0 if the file is signed and unchanged."""
        if not self.is_signed:
            return EXIT_NO_CREDENTIALS
        return 0 if self.is_intact else EXIT_MODIFIED

    @property
    def summary_line(self) -> str:
        """The result in one line."""
        if not self.is_signed:
            return "no credentials found"
        what = "a face was replaced by a trained model"
        if not self.is_swap:
            what = "credentials that do not mention a trained model"
        since = (
            "not changed since it was signed" if self.is_intact else "CHANGED SINCE IT WAS SIGNED"
        )
        return f"{what}; {since}"

    def to_rows(self) -> dict[str, str]:
        """Return the result as text by label, for people."""
        table = {"in the file": self._describe_embedded(), "next to it": self._describe_sidecar()}
        if signer := self._describe_signer():
            table["signed by"] = signer
        if self.has_swap_metadata:
            table["its metadata"] = "states that it is a swap (not signed: anyone can write it)"
        if claim := self.claim:
            table |= _describe_claim(claim)
        if not self.is_signed:
            table["this means"] = (
                "nothing either way: credentials are lost when a file is cut, encoded again or sent"
                " through most services"
            )
        return table

    def to_dict(self) -> dict[str, object]:
        """Return the result as JSON values, for programs."""
        credentials, sidecar = self.credentials, self.sidecar
        return {
            "file": str(self.path),
            "found": self.is_signed,
            "swap": self.is_swap,
            "intact": self.is_intact if self.is_signed else None,
            "credentials": (
                {**asdict(credentials), "state": credentials.state.value} if credentials else None
            ),
            "sidecar": asdict(sidecar) if sidecar else None,
            "metadata_says_swap": self.has_swap_metadata,
        }

    def _describe_embedded(self) -> str:
        """Return a description of the credentials in the file."""
        if self.credentials is None:
            note = "" if can_hold_credentials(self.path) else ", and its format cannot hold any"
            return f"no Content Credentials{note}"
        credentials = self.credentials
        if credentials.state is ValidationState.INTACT:
            return f"Content Credentials of {credentials.made_with}: intact"
        reason = ", ".join(credentials.problems) or "no reason given"
        state = (
            "the file was changed"
            if credentials.state is ValidationState.CHANGED
            else "they cannot be checked"
        )
        return f"Content Credentials of {credentials.made_with}: {state} ({reason})"

    def _describe_sidecar(self) -> str:
        """Return a description of the sidecar."""
        if self.sidecar is None:
            return "no provenance file"
        if not self.sidecar.is_intact:
            return f"{self.sidecar.path.name}: it was changed after it was signed"
        if not self.sidecar.matches:
            return f"{self.sidecar.path.name}: it is for another file, or this one was changed"
        return f"{self.sidecar.path.name}: matches"

    def _describe_signer(self) -> str:
        """Return a description of the signing key."""
        signed = self.credentials or self.sidecar
        if signed is None:
            return ""
        key = "key of this installation" if signed.is_own else "key of another installation"
        if not signed.is_own and "local key" not in signed.signer:
            key = "not verified: this program has no list of trusted signers"
        return f"{signed.signer} ({key}); it does not identify a person"


def verify(path: Path) -> VerificationResult:
    """Read and check the provenance of a file, in it and next to it.

    Raises:
        InputError: It does not exist, is neither a video nor an image, or cannot be read.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder", hint="name one video or image")
    is_marked = _has_swap_metadata(path)
    return VerificationResult(
        path=path,
        credentials=read_credentials(path),
        sidecar=read_sidecar(path),
        has_swap_metadata=is_marked,
    )


def _has_swap_metadata(path: Path) -> bool:
    """Return whether a file's unsigned metadata states that it is a swap.

    Raises:
        InputError: It is neither an image nor a video.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        image_io.read_image(path)
        return has_swap_metadata(path.read_bytes())
    with open_media(path) as container:
        return any(COMPOSITE in text for text in container.metadata.values())


def _describe_claim(claim: Claim) -> Mapping[str, str]:
    """Return a claim as text by label, for people."""
    consent = "a statement is recorded for every set the model was trained on"
    if not claim.consent:
        consent = "no statement is recorded for some set the model was trained on"
    swapped = f"replaced in {claim.swapped:,} of {claim.frames:,} frames"
    return {
        "the face": swapped if claim.frames > 1 else "replaced in this image",
        "made with": ", ".join(f"{name} {version}" for name, version in claim.versions.items()),
        "model": f"SHA-256 {claim.model}",
        "made from": f"SHA-256 {claim.source}" if claim.source else "more than one file",
        "consent": consent,
        "settings": ", ".join(starmap(_format_setting, claim.settings.items())),
    }


def _format_setting(name: str, value: object) -> str:
    """Return a setting as `name: value`, for people; also one of another version."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif value is None:
        text = "default"
    return f"{name.replace('_', ' ')}: {text}"
