"""The key that signs: made on this machine at its first use, kept where only its owner reads it.

It is nobody's passport. Its certificate carries no name, and no authority vouches for it: a
signature by it says that a file is as this installation left it.
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
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from faceswap_cli.core.app_dirs import data_folder
from faceswap_cli.core.errors import InputError

KEY_FILE = "signing-key.pem"
"""The private key, its certificate, and the certificate that vouches for that one."""
OWNER_ONLY = 0o600
CERTIFICATE_LIFETIME = timedelta(days=365 * 20)
"""No authority stamps the time of a signature here, so it lasts only as long as its certificate."""
ISSUER = "faceswap local key"
"""What every such certificate calls itself."""


@dataclass(frozen=True, kw_only=True)
class LocalKey:
    """A private key and the certificates that go with it."""

    private_pem: bytes
    chain_pem: bytes
    """The key's certificate, then the root that signed it."""
    is_persistent: bool
    """Whether it is on the disk, so that the next file is signed by it too."""

    @property
    def chain(self) -> list[x509.Certificate]:
        """The key's certificate and the root."""
        return x509.load_pem_x509_certificates(self.chain_pem)

    @property
    def root_pem(self) -> str:
        """The root's certificate: whoever trusts it trusts this key."""
        return _certificate_pem(self.chain[-1]).decode()

    def sign(self, data: bytes) -> bytes:
        """Return an ECDSA signature over SHA-256 of `data`."""
        private = serialization.load_pem_private_key(self.private_pem, password=None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        return private.sign(data, ec.ECDSA(hashes.SHA256()))


def load_or_create_key() -> LocalKey:
    """Return this installation's key, making it where there is none.

    Where the folder cannot be written, the key is made all the same and lasts for this run.

    Raises:
        InputError: There is such a file, and it does not hold a key.
    """
    return load_key() or _save_key(_create_key())


def load_key() -> LocalKey | None:
    """Return this installation's key, or None where none was needed so far.

    Raises:
        InputError: There is such a file, and it does not hold a key.
    """
    path = data_folder() / KEY_FILE
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(
            f"cannot read the signing key {path}: {error.strerror or error}",
            hint="make it readable to you, or delete it: a new one is made",
        ) from error
    try:
        return _parse_key(text)
    except (ValueError, TypeError, IndexError) as error:
        raise InputError(
            f"{path} does not hold a signing key",
            hint="delete it: a new one is made, and files signed so far stay valid",
        ) from error


def verify_signature(data: bytes, signature: bytes, chain: Sequence[x509.Certificate]) -> bool:
    """Say whether the first certificate's key signed `data`, and each next one vouches for it."""
    public = chain[0].public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        return False
    try:
        public.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        for certificate, above in pairwise(chain):
            certificate.verify_directly_issued_by(above)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _parse_key(text: bytes) -> LocalKey:
    """Take the key and the certificates out of the file's text, and check that they fit."""
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
    """Put a new key on the disk; of two made at once the first is everybody's."""
    folder = data_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkstemp makes files that only their owner can read, before anything is in them.
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
    """Make a key, its certificate, and a root whose own key is then forgotten.

    Two, because the C2PA profile of certificates wants the one that signs not to be its own
    authority; nothing else can ever be signed by that root.
    """
    private, root_private = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    public = private.public_key()
    encoded = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    told = sha256(encoded).hexdigest()[:8]
    root_name = _x509_name(f"{ISSUER} {told}, root")
    root = (
        _certificate_builder(root_name, root_name, root_private.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(root_private, hashes.SHA256())
    )
    leaf = (
        _certificate_builder(_x509_name(f"{ISSUER} {told}"), root_name, public)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        # Of the purposes the C2PA profile allows, the one readers take without a setting.
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
    """Return what both certificates have in common."""
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
    """Return a certificate's name: no person, no machine."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ISSUER),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    """Return what a key may be used for, and for nothing else."""
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
    """Return a private key as text, not encrypted: whoever can read the file can sign."""
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise TypeError("the key is not one of an elliptic curve")
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
