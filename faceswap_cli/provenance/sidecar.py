"""A signed JSON file next to a finished one: `write_sidecar` and `read_sidecar`.

It has the same contents as Content Credentials, for formats that cannot hold those. It identifies
its file by digest, not by name.
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
from faceswap_cli.core.fileio import fit_name, sha256_file, write_text
from faceswap_cli.provenance.claim import COMPOSITE, DISCLOSURE, Claim
from faceswap_cli.provenance.signing_key import load_key, load_or_create_key, verify_signature

FORMAT = 1
SUFFIX = ".provenance.json"


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """The contents of a sidecar and the result of checking it."""

    path: Path
    matches: bool
    """Whether the file next to it is the signed one, unchanged."""
    is_intact: bool
    """Whether the sidecar itself is unchanged since it was signed."""
    signer: str
    """Name of the signing certificate."""
    is_own: bool
    """Whether the key is the one of this installation."""
    claim: Claim


def sidecar_path(path: Path) -> Path:
    """Return the path of a file's sidecar."""
    return path.with_name(fit_name(path.name, SUFFIX))


def write_sidecar(path: Path, claim: Claim) -> Path:
    """Write the signed sidecar of a finished file; return its path.

    Args:
        path: The file, with its final name and contents: its digest is taken.
        claim: How it was made.

    Raises:
        InputError: It cannot be written, or the key cannot be used.
    """
    content = {
        "format": FORMAT,
        "says": DISCLOSURE,
        "digital_source_type": COMPOSITE,
        "file": _file_id(path),
        "claim": claim.to_dict(),
    }
    key = load_or_create_key()
    signature = {
        "algorithm": "ECDSA P-256, SHA-256, over the JSON without this member: sorted, no spaces",
        "value": b64encode(key.sign(_canonical_json(content))).decode(),
        "certificates": key.chain_pem.decode(),
    }
    sidecar = sidecar_path(path)
    write_text(sidecar, json.dumps({**content, "signature": signature}, indent=2) + "\n")
    return sidecar


def read_sidecar(path: Path) -> Sidecar | None:
    """Return the sidecar of the file at `path`; None if it does not exist.

    Raises:
        InputError: The sidecar cannot be read, or is of a newer version.
    """
    sidecar = sidecar_path(path)
    try:
        content = json.loads(sidecar.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{sidecar} cannot be read: {error}") from error
    try:
        if content["format"] > FORMAT:
            raise InputError(
                f"{sidecar} was written by a newer faceswap", hint="update faceswap to read it"
            )
        return _parse_sidecar(sidecar, content, file_id=_file_id(path))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{sidecar} is not a sidecar of faceswap, or is damaged") from error


def _parse_sidecar(
    path: Path, content: dict[str, Any], *, file_id: Mapping[str, object]
) -> Sidecar:
    """Return a sidecar's contents, with its signature and its file checked."""
    signature = content.pop("signature")
    chain = x509.load_pem_x509_certificates(signature["certificates"].encode())
    own = load_key()
    names = chain[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    is_intact = verify_signature(_canonical_json(content), b64decode(signature["value"]), chain)
    return Sidecar(
        path=path,
        matches=content["file"] == file_id,
        is_intact=is_intact,
        signer=str(names[0].value) if names else "unknown signer",
        is_own=is_intact and own is not None and chain[0] == own.chain[0],
        claim=Claim.from_dict(content["claim"]),
    )


def _file_id(path: Path) -> dict[str, str | int]:
    """Return the identity of a file: its size and digest."""
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def _canonical_json(content: Mapping[str, Any]) -> bytes:
    """Return the bytes that are signed: independent of the file's formatting."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
