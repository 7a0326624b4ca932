"""The authority for repairs: signs the SSH certificates that healers log in to hosts with.

Invariant: a certificate is for one member's host, for minutes, and for running commands alone: no
terminal, no forwarding. The authority's private key is encrypted wherever it is replicated or
backed up; what it is encrypted with is derived from the hub's seed, which each member has on its
own disk (0600) and which is in no log, snapshot or backup of the state.
"""

from __future__ import annotations

import os

import msgspec
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_ssh_private_key,
    load_ssh_public_key,
)

from sappers.errors import IdentityError
from sappers.model.repair import RepairKey

PRINCIPAL_PREFIX = "sappers-repair-"
_PURPOSE = b"sappers repair authority"
_NONCE_BYTES = 12
# Hosts whose clock is a little behind must not refuse what was signed just now.
_BACKDATE_SECONDS = 60


class RepairAuthority(msgspec.Struct, frozen=True):
    """A key pair. `private` is in OpenSSH's format; secret.

    Attributes:
        public: As `RepairKey.public`.
    """

    public: str
    private: bytes

    def __repr__(self) -> str:
        return f"RepairAuthority({self.public})"


def create_repair_authority() -> RepairAuthority:
    """A new Ed25519 key pair."""
    key = Ed25519PrivateKey.generate()
    return load_repair_authority(
        key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    )


def load_repair_authority(private: bytes) -> RepairAuthority:
    """The pair of a private key in OpenSSH's format.

    Raises:
        IdentityError: It is no such key.
    """
    key = _read_private(private).public_key()
    return RepairAuthority(
        key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(), private
    )


def seal_authority(authority: RepairAuthority, secret: str) -> RepairKey:
    """The authority as the cluster keeps it; the same secret opens it."""
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(_derive(secret)).encrypt(nonce, authority.private, authority.public.encode())
    return RepairKey(authority.public, nonce + sealed)


def open_authority(key: RepairKey, secret: str) -> RepairAuthority:
    """The reverse of `seal_authority`.

    Raises:
        IdentityError: Another secret sealed it, or it was changed.
    """
    nonce, sealed = key.sealed[:_NONCE_BYTES], key.sealed[_NONCE_BYTES:]
    try:
        private = AESGCM(_derive(secret)).decrypt(nonce, sealed, key.public.encode())
    except (InvalidTag, ValueError) as error:
        raise IdentityError(
            "the cluster's repair key cannot be decrypted here",
            hint="run sappers-deploy bootstrap: it gives the cluster its key again",
        ) from error
    return load_repair_authority(private)


def principal_of(member_id: str) -> str:
    """Whom a certificate for this member's host is for."""
    return f"{PRINCIPAL_PREFIX}{member_id}"


def sign_login(
    authority: RepairAuthority,
    public_key: str,
    *,
    member_id: str,
    key_id: str,
    now: float,
    until: float,
) -> str:
    """An SSH user certificate for one host, one line: `ssh-ed25519-cert-v01@openssh.com AAAA…`.

    Args:
        authority: Signs it.
        public_key: Of whoever logs in: `ssh-ed25519 AAAA…`.
        member_id: Whose host it is for.
        key_id: What sshd logs of it.
        now: Unix time in seconds.
        until: When it ends.

    Raises:
        IdentityError: `public_key` is no Ed25519 key.
    """
    builder = (
        SSHCertificateBuilder()
        .public_key(_read_public(public_key))
        .serial(0)
        .type(SSHCertificateType.USER)
        .key_id(key_id.encode())
        .valid_principals([principal_of(member_id).encode()])
        .valid_after(int(now) - _BACKDATE_SECONDS)
        .valid_before(int(until))
    )
    return builder.sign(_read_private(authority.private)).public_bytes().decode()


class SealedRepairSigner:
    """Signs with the cluster's sealed key; satisfies `ports.RepairSigner`."""

    def __init__(self, secret: str) -> None:
        """`secret` is what the key was sealed with."""
        self._secret = secret

    def sign(
        self,
        key: RepairKey,
        public_key: str,
        *,
        member_id: str,
        key_id: str,
        now: float,
        until: float,
    ) -> str:
        """As the port says."""
        authority = open_authority(key, self._secret)
        return sign_login(
            authority, public_key, member_id=member_id, key_id=key_id, now=now, until=until
        )


def _derive(secret: str) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=None, info=_PURPOSE).derive(secret.strip().encode())


def _read_private(private: bytes) -> Ed25519PrivateKey:
    try:
        key = load_ssh_private_key(private, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise IdentityError("the repair key is damaged") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError("the repair key is of another kind")
    return key


def _read_public(public: str) -> Ed25519PublicKey:
    try:
        key = load_ssh_public_key(public.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError("that is no public key of SSH") from error
    if not isinstance(key, Ed25519PublicKey):
        raise IdentityError("only Ed25519 keys get a certificate")
    return key
