"""The file beside a finished one: what was done, and which file it was done to, signed.

It says the same as Content Credentials, in JSON that a person can read; where the container cannot
hold credentials it stands in for them. It knows its file by its digest, not by its name.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import sha256_file, write_text
from faceswap_cli.provenance.claim import COMPOSITE, DISCLOSURE, Claim
from faceswap_cli.provenance.signing_key import load_key, load_or_create_key, verify_signature

FORMAT = 1
SUFFIX = ".provenance.json"


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """What the file beside another says of it, and whether that holds."""

    path: Path
    matches: bool
    """Whether the other file is still the one it speaks of."""
    is_intact: bool
    """Whether it is itself as it was signed."""
    signer: str
    """Whose certificate signed it, as that calls itself."""
    is_own: bool
    """Whether the key is the one of this installation."""
    claim: Claim


def sidecar_path(path: Path) -> Path:
    """Return where the sidecar of a file lies."""
    return path.with_name(path.name + SUFFIX)


def write_sidecar(path: Path, claim: Claim) -> Path:
    """Write what was done to a finished file beside it, signed; return where.

    Args:
        path: The file, under its final name and as it stays: its digest is taken.
        claim: What was done.

    Raises:
        InputError: It cannot be written, or there is no usable key.
    """
    told = {
        "format": FORMAT,
        "says": DISCLOSURE,
        "digital_source_type": COMPOSITE,
        "file": _file_id(path),
        "claim": claim.to_dict(),
    }
    key = load_or_create_key()
    signature = {
        "algorithm": "ECDSA P-256, SHA-256, over the JSON without this member: sorted, no spaces",
        "value": b64encode(key.sign(_canonical_json(told))).decode(),
        "certificates": key.chain_pem.decode(),
    }
    beside = sidecar_path(path)
    write_text(beside, json.dumps({**told, "signature": signature}, indent=2) + "\n")
    return beside


def read_sidecar(path: Path) -> Sidecar | None:
    """Return what lies beside the file at `path`; None if nothing does.

    Raises:
        InputError: It is there and cannot be read, or is of a newer version.
    """
    beside = sidecar_path(path)
    try:
        told = json.loads(beside.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{beside} cannot be read: {error}") from error
    try:
        if told["format"] > FORMAT:
            raise InputError(
                f"{beside} was written by a newer faceswap", hint="update faceswap to read it"
            )
        return _parse_sidecar(beside, told, file_id=_file_id(path))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{beside} is not a sidecar of faceswap, or is damaged") from error


def _parse_sidecar(
    path: Path, content: dict[str, Any], *, file_id: Mapping[str, object]
) -> Sidecar:
    """Return what a sidecar says, and whether its signature and its file hold."""
    signature = content.pop("signature")
    chain = x509.load_pem_x509_certificates(signature["certificates"].encode())
    own = load_key()
    names = chain[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    is_intact = verify_signature(_canonical_json(content), b64decode(signature["value"]), chain)
    return Sidecar(
        path=path,
        matches=content["file"] == file_id,
        is_intact=is_intact,
        signer=str(names[0].value) if names else "somebody unknown",
        is_own=is_intact and own is not None and chain[0] == own.chain[0],
        claim=Claim.from_dict(content["claim"]),
    )


def _file_id(path: Path) -> dict[str, str | int]:
    """Return what tells a file from all others."""
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def _canonical_json(content: Mapping[str, Any]) -> bytes:
    """Return the bytes that are signed: the same however the file is laid out."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
