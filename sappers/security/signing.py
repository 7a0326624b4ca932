"""Who vouches for an image: Ed25519 signatures of manifests.

Invariant: what is signed begins with what it is (`PURPOSE`), so that a signature of a manifest is
never one of something else. The private key stays on the machine that builds.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sappers.durable import sync_folder
from sappers.errors import IdentityError
from sappers.model.image import Signature, SignedManifest, is_public_key

PURPOSE = b"sappers image manifest v1\n"
SIGNATURES_MAX = 16

_VALUE = re.compile(r"[0-9a-f]{128}")


class SigningKey:
    """A private key that signs images."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw().hex()

    def sign(self, manifest: bytes) -> Signature:
        """A signature of a manifest's canonical JSON."""
        return Signature(self.public, self._key.sign(PURPOSE + manifest).hex())

    def __repr__(self) -> str:
        return f"SigningKey({self.public})"


def load_or_create_signing_key(path: Path) -> SigningKey:
    """The key of a file, which is made (0600, durably) when there is none.

    Raises:
        IdentityError: The file is no Ed25519 key, others can reach it, or it cannot be made.
    """
    try:
        if not path.exists():
            _create(path)
        return _load(path)
    except OSError as error:
        raise IdentityError(f"{path}: {error.strerror or error}") from error


def signers(signed: SignedManifest) -> tuple[str, ...]:
    """The keys that truly signed it, trusted or not; nothing of a manifest with too many."""
    if len(signed.signatures) > SIGNATURES_MAX:
        return ()
    found = (one.key for one in signed.signatures if _is_valid(one, signed.manifest))
    return tuple(dict.fromkeys(found))


def _is_valid(signature: Signature, manifest: bytes) -> bool:
    # Capitals are no second way to write a key: keys are compared as text.
    if not is_public_key(signature.key) or not _VALUE.fullmatch(signature.value):
        return False
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.key))
        key.verify(bytes.fromhex(signature.value), PURPOSE + manifest)
    except (InvalidSignature, ValueError):
        return False
    return True


def _load(path: Path) -> SigningKey:
    pem = path.read_bytes()
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise IdentityError(
            f"{path}: other users can reach this private key (mode {mode:04o})",
            hint=f"chmod 600 {path}; if others may have read it, trust another key instead",
        )
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise IdentityError(f"{path}: not a PEM private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(f"{path}: not an Ed25519 key")
    return SigningKey(key)


def _create(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(beside)  # unlike a rename it never replaces a key made meanwhile
    except FileExistsError:
        pass  # another build was first: its key is the key
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)
