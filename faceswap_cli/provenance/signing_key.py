"""This installation's signing key: created at its first use, readable only by its owner.

It does not identify a person: its certificate has no name, and no authority issued it. A signature
proves that a file is unchanged since this installation wrote it.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from tempfile import mkstemp

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from faceswap_cli.core.app_dirs import data_folder
from faceswap_cli.core.errors import InputError

KEY_FILE = "signing-key.pem"
"""The private key, its certificate, and the root certificate that issued that one."""
OWNER_ONLY = 0o600
CERTIFICATE_LIFETIME = timedelta(days=365 * 20)
"""Without a time stamp authority a signature is valid only as long as its certificate."""
ISSUER = "faceswap local key"
"""Organization and prefix of the name in every such certificate."""


@dataclass(frozen=True, kw_only=True)
class LocalKey:
    """A private key and its certificates."""

    private_pem: bytes
    chain_pem: bytes
    """The key's certificate, then the root that signed it."""
    is_persistent: bool
    """Whether it is on disk, so that later files are signed by it too."""

    @property
    def chain(self) -> list[x509.Certificate]:
        """The key's certificate and the root."""
        return x509.load_pem_x509_certificates(self.chain_pem)

    @property
    def root_pem(self) -> str:
        """The root's certificate, the trust anchor of this key."""
        return _certificate_pem(self.chain[-1]).decode()

    def sign(self, data: bytes) -> bytes:
        """Return an ECDSA signature over SHA-256 of `data`."""
        private = serialization.load_pem_private_key(self.private_pem, password=None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        return private.sign(data, ec.ECDSA(hashes.SHA256()))


def load_or_create_key() -> LocalKey:
    """Return this installation's key, creating it if it does not exist.

    If the folder cannot be written, the key is created for this process only.

    Raises:
        InputError: The key's file exists and cannot be read.
    """
    return load_key() or _save_key(_create_key())


def load_key() -> LocalKey | None:
    """Return this installation's key, or None if none has been created.

    Raises:
        InputError: The key's file exists and cannot be read.
    """
    try:
        path = data_folder() / KEY_FILE
    except FileNotFoundError:
        return None
    try:
        _restrict_to_owner(path)
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(
            f"cannot read the signing key {path}: {error.strerror or error}",
            hint="make it readable to you, or delete it: a new one will be created",
        ) from error
    try:
        return _parse_key(text)
    except (UnsupportedAlgorithm, ValueError, TypeError, IndexError) as error:
        raise InputError(
            f"{path} does not hold a signing key",
            hint="delete it: a new one will be created, and signed files stay valid",
        ) from error


def is_private(path: Path) -> bool:
    """Return whether only its owner can read a file; Windows keeps that in other ways."""
    return os.name == "nt" or not path.stat().st_mode & 0o077


def _restrict_to_owner(path: Path) -> None:
    """Take a key away from all but its owner: copies and backups lose such permissions."""
    if not is_private(path):
        with suppress(PermissionError):
            path.chmod(OWNER_ONLY)


def verify_signature(data: bytes, signature: bytes, chain: Sequence[x509.Certificate]) -> bool:
    """Return whether the first certificate's key signed `data`, and the next ones issued it."""
    try:
        public = chain[0].public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey):
            return False
        public.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        for certificate, issuer in pairwise(chain):
            certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _parse_key(text: bytes) -> LocalKey:
    """Return the key and the certificates in the file's text.

    Raises:
        ValueError, TypeError, IndexError: They cannot be parsed, or do not belong together.
        UnsupportedAlgorithm: The key, or a certificate's, is of an unknown kind.
    """
    private = serialization.load_pem_private_key(text, password=None)
    chain = x509.load_pem_x509_certificates(text)
    if len(chain) != 2 or chain[0].public_key() != private.public_key():
        raise ValueError("the certificates are not this key's")
    return LocalKey(
        private_pem=_private_pem(private),
        chain_pem=b"".join(map(_certificate_pem, chain)),
        is_persistent=True,
    )


def _save_key(key: LocalKey) -> LocalKey:
    """Write a new key to the disk and return it; if another process was first, return that one."""
    try:
        folder = data_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkstemp creates files that only their owner can read, before anything is in them.
        handle, name = mkstemp(prefix=".signing-key-", dir=folder)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(key.private_pem + key.chain_pem)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(OWNER_ONLY)
            with suppress(FileExistsError):
                os.link(temporary, folder / KEY_FILE)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError:
        return key
    return load_key() or key


def _create_key() -> LocalKey:
    """Create a key, its certificate, and a root certificate whose private key is discarded.

    The C2PA certificate profile does not allow self-signed signing certificates; the root can never
    issue another one.
    """
    private, root_private = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    public = private.public_key()
    encoded = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    key_id = sha256(encoded).hexdigest()[:8]
    root_name = _x509_name(f"{ISSUER} {key_id}, root")
    root = (
        _certificate_builder(root_name, root_name, root_private.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(root_private, hashes.SHA256())
    )
    leaf = (
        _certificate_builder(_x509_name(f"{ISSUER} {key_id}"), root_name, public)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        # Of the purposes the C2PA profile allows, the one readers accept by default.
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_private.public_key()),
            critical=False,
        )
        .sign(root_private, hashes.SHA256())
    )
    return LocalKey(
        private_pem=_private_pem(private),
        chain_pem=_certificate_pem(leaf) + _certificate_pem(root),
        is_persistent=False,
    )


def _certificate_builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    """Return a builder with the fields that both certificates have in common."""
    # A day back, for clocks that differ.
    begin = datetime.now(UTC) - timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + CERTIFICATE_LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _x509_name(common: str) -> x509.Name:
    """Return a certificate's name, without the name of a person or machine."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ISSUER),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    """Return the key usage extension with only these purposes."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(private: object) -> bytes:
    """Return a private key as unencrypted PEM: access to the file is access to the key."""
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise TypeError("the key is not an elliptic curve key")
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
