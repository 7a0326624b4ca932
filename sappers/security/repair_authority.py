"""The authority for repairs: signs the SSH certificates that healers log in to hosts with.

Invariant: a certificate is for one member's host, for minutes, and for running commands alone: no
terminal, no forwarding. The authority's private key is encrypted wherever it is replicated or
backed up; what it is encrypted with is derived from the hub's seed, which each member has on its
own disk (0600) and which is in no log, snapshot or backup of the state. How healers log in and
whose images they may be is what the authority has signed: to have it committed is not enough.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
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
from sappers.model.repair import KnownAccess, RepairKey, RepairLogin
from sappers.security.derivation import derive_key

PRINCIPAL_PREFIX = "sappers-repair-"
_PURPOSE = b"sappers repair authority"
_NONCE_BYTES = 12
_GIVE_AGAIN = (
    "run sappers-deploy bootstrap; an agent by hand: start it with --let-healers-in and "
    "--cluster-keys DIR"
)
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


def seal_authority(
    authority: RepairAuthority, secret: str, image_keys: Sequence[str] = (), number: int = 0
) -> RepairKey:
    """The authority as the cluster keeps it; the same secret opens it.

    Args:
        authority: The key pair.
        secret: What each member has.
        image_keys: Whose images healers may be.
        number: Of this statement.
    """
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(derive_key(secret, _PURPOSE)).encrypt(
        nonce, authority.private, authority.public.encode()
    )
    keys = tuple(sorted(set(image_keys)))
    key = RepairKey(authority.public, nonce + sealed, keys, number=number)
    return msgspec.structs.replace(key, signature=_sign(authority, key.statement()))


def sign_repair_login(authority: RepairAuthority, login: RepairLogin) -> RepairLogin:
    """The login with the authority's signature."""
    return msgspec.structs.replace(login, signature=_sign(authority, login.statement()))


def renew_access(
    authority: RepairAuthority,
    secret: str,
    logins: Sequence[RepairLogin],
    image_keys: Sequence[str],
    known: KnownAccess,
    now: float,
) -> tuple[RepairKey, tuple[RepairLogin, ...]] | None:
    """What a cluster is to be given, signed; None where it has all of that.

    What is new has the next number, and at least the time: a cluster that has forgotten a member,
    or was restored, takes nothing that was signed before.

    Args:
        authority: The key pair.
        secret: What each member has.
        logins: Of the members that this is about.
        image_keys: Whose images healers may be.
        known: What the cluster has.
        now: Unix time in seconds.
    """
    before = {one.member_id: one for one in known.logins}
    signed = tuple(_renew_login(authority, one, before.get(one.member_id), now) for one in logins)
    keys = tuple(sorted(set(image_keys)))
    same = known.number > 0 and (known.public, known.image_keys) == (authority.public, keys)
    if same and set(signed) <= set(known.logins):
        return None
    number = known.number if same else _next_number(known.number, now)
    return seal_authority(authority, secret, keys, number), signed


def _renew_login(
    authority: RepairAuthority, login: RepairLogin, known: RepairLogin | None, now: float
) -> RepairLogin:
    number = known.number if known else 0
    again = sign_repair_login(authority, msgspec.structs.replace(login, number=number))
    if number and again == known:
        return again
    newer = msgspec.structs.replace(login, number=_next_number(number, now))
    return sign_repair_login(authority, newer)


def _next_number(known: int, now: float) -> int:
    return max(known + 1, int(now))


def open_authority(key: RepairKey, secret: str) -> RepairAuthority:
    """The reverse of `seal_authority`.

    Raises:
        IdentityError: Another secret sealed it, or it was changed.
    """
    nonce, sealed = key.sealed[:_NONCE_BYTES], key.sealed[_NONCE_BYTES:]
    try:
        private = AESGCM(derive_key(secret, _PURPOSE)).decrypt(nonce, sealed, key.public.encode())
    except (InvalidTag, ValueError) as error:
        raise IdentityError(
            "the cluster's repair key cannot be decrypted here",
            hint=_GIVE_AGAIN,
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
        authority = self._opened(key)
        return sign_login(
            authority, public_key, member_id=member_id, key_id=key_id, now=now, until=until
        )

    def check(self, key: RepairKey, logins: Sequence[RepairLogin]) -> None:
        """As the port says."""
        authority = self._opened(key)
        for login in logins:
            what = f"how healers log in to {login.member_id} is"
            _require_signature(authority, login.statement(), login.signature, what)

    def _opened(self, key: RepairKey) -> RepairAuthority:
        """Also what it says of images is its own."""
        authority = open_authority(key, self._secret)
        what = "whose images healers may be is"
        _require_signature(authority, key.statement(), key.signature, what)
        return authority


def _sign(authority: RepairAuthority, statement: bytes) -> str:
    return _read_private(authority.private).sign(statement).hex()


def _require_signature(
    authority: RepairAuthority, statement: bytes, signature: str, what: str
) -> None:
    try:
        public = _read_private(authority.private).public_key()
        public.verify(bytes.fromhex(signature), statement)
    except (InvalidSignature, ValueError) as error:
        raise IdentityError(
            f"{what} not signed by the cluster's repair key",
            hint=_GIVE_AGAIN,
        ) from error


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
