"""Content Credentials (C2PA) of a file: `sign_file` and `read_credentials`.

Works offline: no time stamp authority, no remote certificates or manifests. Remuxing a file removes
its credentials, so `sign_file` must come last.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import c2pa

from faceswap_cli import __version__
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import atomic_write
from faceswap_cli.provenance.claim import COMPOSITE, DISCLOSURE, PROGRAM, Claim
from faceswap_cli.provenance.signing_key import LocalKey, load_key, load_or_create_key
from faceswap_cli.provenance.xmp import embed_xmp

MIME_TYPES: Mapping[str, str] = MappingProxyType(
    {
        ".mp4": "video/mp4",
        ".m4v": "video/x-m4v",
        ".mov": "video/quicktime",
        ".png": "image/png",
        ".jpg": "image/jpeg",
        ".jpeg": "image/jpeg",
        ".webp": "image/webp",
        ".tif": "image/tiff",
        ".tiff": "image/tiff",
        ".avif": "image/avif",
    }
)
"""MIME type by suffix, of files that can hold credentials."""
ASSERTION_LABEL = "faceswap.claim"
"""Label of our claim among a manifest's assertions."""

_OFFLINE = {"remote_manifest_fetch": False, "ocsp_fetch": False}
_MEMORY_LIMITS = {
    "backing_store_memory_threshold_in_mb": 16,
    "merkle_tree_chunk_size_in_kb": 1024,
    "merkle_tree_max_proofs": 0,
}
"""A video is hashed in chunks of a megabyte, 32 bytes each, and copied via the disk: by default the
library uses twice the file's size of memory, up to 600 MB."""
_AI_SOURCE_TYPES = ("compositeWithTrainedAlgorithmicMedia", "trainedAlgorithmicMedia")
"""IPTC's digital source types of files made partly or entirely by a trained model."""


class ValidationState(Enum):
    """Result of checking a signature."""

    INTACT = "intact"
    CHANGED = "changed"
    """The file or its manifest was changed after signing."""
    BROKEN = "broken"
    """The credentials cannot be checked: they are damaged, or their certificate has expired."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """The contents of a file's credentials and the result of checking them."""

    state: ValidationState
    problems: tuple[str, ...]
    """Failures, by the standard's codes."""
    is_swap: bool
    """Whether they state that a trained model made a part of the file."""
    made_with: str
    """Name and version of the program that wrote them."""
    signer: str
    """Name of the signing certificate."""
    is_own: bool
    """Whether the key is the one of this installation."""
    claim: Claim | None
    """The claim of faceswap; None in other programs' credentials."""


def can_hold_credentials(path: Path) -> bool:
    """Return whether a file of this name can hold credentials; Matroska, for example, cannot."""
    return path.suffix.lower() in MIME_TYPES


def sign_file(path: Path, claim: Claim, *, source: Path | None = None) -> bool:
    """Write credentials into a finished file: a face was replaced, and how.

    Args:
        path: The file; it is replaced atomically.
        claim: How it was made.
        source: The file it was made from; its own credentials, if any, become part of the new
            ones. Its name and path are not written.

    Returns:
        Whether the credentials are in the file; False if its format cannot hold any: see
        `write_sidecar`.

    Raises:
        InputError: The file cannot be written, or the key cannot be used.
    """
    if not can_hold_credentials(path):
        return False
    key = load_or_create_key()
    try:
        with (
            atomic_write(path) as temporary,
            _create_builder(claim, source) as builder,
            _open_unsigned(path) as unsigned,
            temporary.open("w+b") as signed,
        ):
            builder.sign(_create_signer(key), MIME_TYPES[path.suffix.lower()], unsigned, signed)
    except c2pa.C2paError as error:
        raise InputError(
            f"{path} could not be signed: {error}",
            hint="is the disk full? --no-credentials writes the file unsigned",
        ) from error
    return True


def copy_claim(swapped: Path, path: Path) -> bool:
    """Sign a file that shows a swapped one, such as a contact sheet, with the same claim.

    Args:
        swapped: The swapped file.
        path: The file that shows it; it is replaced atomically.

    Returns:
        Whether it is signed; False if the swapped file has no claim, or one that cannot be read.
    """
    try:
        credentials = read_credentials(swapped)
    except InputError:
        return False
    if credentials is None or credentials.claim is None:
        return False
    return sign_file(path, credentials.claim, source=swapped)


def _open_unsigned(path: Path) -> BinaryIO:
    """Open a file to be signed; an image gets XMP metadata first."""
    if MIME_TYPES[path.suffix.lower()].startswith("image/"):
        return BytesIO(embed_xmp(path.read_bytes()))
    return path.open("rb")


def read_credentials(path: Path) -> Credentials | None:
    """Return a file's credentials; None if it has none, or cannot hold any.

    Raises:
        InputError: The file, or this installation's key, cannot be read.
    """
    key = load_key()
    try:
        with path.open("rb") as file, _open_reader(file, key) as reader:
            return _parse_credentials(json.loads(reader.json()))
    except (c2pa.C2paError.ManifestNotFound, c2pa.C2paError.NotSupported):
        return None
    except c2pa.C2paError as error:
        raise _unreadable_error(path, str(error)) from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _unreadable_error(path: Path, problem: str) -> InputError:
    """Return the error for credentials that cannot be read."""
    if problem.startswith("Remote"):
        url = problem.rpartition(" ")[2]
        return InputError(
            f"the credentials of {path} are not in it but at {url}",
            hint="faceswap does not use the network: use another reader of Content Credentials",
        )
    return InputError(
        f"{path} cannot be read: {problem}", hint="it is incomplete: get another copy"
    )


def _create_builder(claim: Claim, source: Path | None) -> c2pa.Builder:
    """Return the manifest to sign: opened or created, then edited by a trained model."""
    thumbnail = {"thumbnail": {"enabled": False}}
    settings = {"builder": thumbnail, "verify": _OFFLINE, "core": _MEMORY_LIMITS}
    program = {"name": PROGRAM, "version": __version__}
    builder = c2pa.Builder(
        {
            "claim_generator_info": [program],
            "assertions": [{"label": ASSERTION_LABEL, "data": claim.to_dict()}],
        },
        context=c2pa.Context.from_dict(settings),
    )
    if source is None:
        builder.set_intent(
            c2pa.C2paBuilderIntent.CREATE,
            c2pa.C2paDigitalSourceType.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA,
        )
    else:
        # The intent adds the action "opened", which names the parent.
        builder.set_intent(c2pa.C2paBuilderIntent.EDIT, c2pa.C2paDigitalSourceType.EMPTY)
        _add_parent(builder, source)
    builder.add_action(
        {
            "action": "c2pa.edited",
            "digitalSourceType": COMPOSITE,
            "softwareAgent": program,
            "description": DISCLOSURE,
        }
    )
    return builder


def _add_parent(builder: c2pa.Builder, source: Path) -> None:
    """Add the file that was converted as the parent, without its name."""
    parent = {"title": "source", "relationship": "parentOf"}
    mime_type = MIME_TYPES.get(source.suffix.lower(), "application/octet-stream")
    try:
        with source.open("rb") as file:
            builder.add_ingredient(parent, mime_type, file)
    except c2pa.C2paError:
        # The source's own credentials cannot be read: only record that it exists.
        builder.add_ingredient(parent, "application/octet-stream", BytesIO())


def _create_signer(key: LocalKey) -> c2pa.Signer:
    """Return the signer. Without a time stamp authority (None, not "") it needs no network."""
    return c2pa.Signer.from_info(
        c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, key.chain_pem, key.private_pem, None)
    )


def _open_reader(file: BinaryIO, key: LocalKey | None) -> c2pa.Reader:
    """Return a reader of a file's manifest that trusts only this installation's root."""
    trust = {"user_anchors": key.root_pem} if key else {}
    settings = {"verify": {**_OFFLINE, "verify_trust": True}, "trust": trust}
    # Without a MIME type: detected from the content, whatever the file's name.
    return c2pa.Reader(None, file, context=c2pa.Context.from_dict(settings))


def _parse_credentials(store: Mapping[str, Any]) -> Credentials:
    """Return the contents of a store's active manifest."""
    manifest = store["manifests"][store["active_manifest"]]
    results = store.get("validation_results", {}).get("activeManifest", {})
    failures = [
        problem
        for problem in results.get("failure", ())
        if problem["code"] != "signingCredential.untrusted"
    ]
    signature = manifest.get("signature_info") or {}
    return Credentials(
        state=_parse_state(str(store.get("validation_state")), [one["code"] for one in failures]),
        problems=tuple(one["code"] for one in failures),
        is_swap=_is_swap(manifest),
        made_with=_parse_generator(manifest),
        signer=str(signature.get("common_name") or signature.get("issuer") or "unknown signer"),
        is_own=any(
            one["code"] == "signingCredential.trusted" for one in results.get("success", ())
        ),
        claim=_parse_claim(manifest),
    )


def _parse_state(validation: str, codes: list[str]) -> ValidationState:
    """Return the state from the library's validation state and failure codes."""
    if validation in ("Valid", "Trusted"):
        return ValidationState.INTACT
    return (
        ValidationState.CHANGED
        if any(code.endswith("ismatch") for code in codes)
        else ValidationState.BROKEN
    )


def _is_swap(manifest: Mapping[str, Any]) -> bool:
    """Return whether an action of the manifest is a trained model's."""
    actions = [
        action
        for assertion in manifest.get("assertions", ())
        if str(assertion.get("label", "")).startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", ())
    ]
    return any(str(one.get("digitalSourceType", "")).endswith(_AI_SOURCE_TYPES) for one in actions)


def _parse_generator(manifest: Mapping[str, Any]) -> str:
    """Return the name and version of the program that wrote a manifest."""
    programs = manifest.get("claim_generator_info") or [{}]
    words = [programs[0].get("name"), programs[0].get("version")]
    return " ".join(str(word) for word in words if word) or "an unknown program"


def _parse_claim(manifest: Mapping[str, Any]) -> Claim | None:
    """Return the claim in our assertion; None without one that this version can read."""
    for assertion in manifest.get("assertions", ()):
        if assertion.get("label") == ASSERTION_LABEL:
            try:
                return Claim.from_dict(assertion["data"])
            except (KeyError, TypeError, ValueError):
                return None
    return None
