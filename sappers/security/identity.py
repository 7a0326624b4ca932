"""Reading this process's own identity: three files that must fit each other."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from sappers.errors import FIT_OUT_AGAIN, IdentityError
from sappers.security.tls import Identity, identity_in


def load_identity(pki: Path, *, cert: str = "cert.pem", key: str = "key.pem") -> Identity:
    """Read and check `ca.pem`, a certificate and its key of a folder.

    Raises:
        IdentityError: A file is missing, damaged, expired, or does not fit the others, or the key
            is readable by other users; says which file and why.
    """
    ca_path, cert_path, key_path = pki / "ca.pem", pki / cert, pki / key
    ca = read_certificate(ca_path)
    certificate = read_certificate(cert_path)
    try:
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, TypeError, ValueError) as error:
        raise IdentityError(
            f"{cert_path}: the authority in {ca_path} did not sign it", hint=FIT_OUT_AGAIN
        ) from error
    now = time.time()
    if not certificate.not_valid_before_utc.timestamp() <= now:
        raise IdentityError(
            f"{cert_path}: it is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}",
            hint="set this machine's clock",
        )
    if not now < certificate.not_valid_after_utc.timestamp():
        raise IdentityError(
            f"{cert_path}: it expired on {certificate.not_valid_after_utc:%Y-%m-%d}",
            hint=FIT_OUT_AGAIN,
        )
    _check_key(key_path, certificate)
    who = identity_in(uris_of(certificate), str(cert_path))
    return Identity(ca_path, cert_path, key_path, who.node_id, who.role, who.cluster)


def key_digest(path: Path) -> str:
    """SHA-256, hex, of the public key of a PEM file's certificate (SubjectPublicKeyInfo).

    Raises:
        IdentityError: There is none.
    """
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    key = read_certificate(path).public_key().public_bytes(serialization.Encoding.DER, spki)
    return hashlib.sha256(key).hexdigest()


def read_certificate(path: Path) -> x509.Certificate:
    """The certificate of a PEM file.

    Raises:
        IdentityError: There is none.
    """
    try:
        return x509.load_pem_x509_certificate(_read(path))
    except ValueError as error:
        raise IdentityError(f"{path}: not a PEM certificate", hint=FIT_OUT_AGAIN) from error


def _check_key(path: Path, certificate: x509.Certificate) -> None:
    pem = _read(path)
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise IdentityError(
            f"{path}: other users can reach this private key (mode {mode:04o})",
            hint=f"chmod 600 {path}; if others may have read it, have a new one signed",
        )
    try:
        public_key = serialization.load_pem_private_key(pem, password=None).public_key()
    except (ValueError, TypeError) as error:
        raise IdentityError(f"{path}: not a PEM private key", hint=FIT_OUT_AGAIN) from error
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if public_key.public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise IdentityError(f"{path}: not the key of the certificate beside it", hint=FIT_OUT_AGAIN)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IdentityError(f"{path}: {error.strerror}", hint=FIT_OUT_AGAIN) from error


def uris_of(certificate: x509.Certificate) -> list[str]:
    """The URI names of a certificate; empty where it has none, or cannot be read."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)
