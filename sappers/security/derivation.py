"""Keys that follow from a secret which each member has: nobody has to carry them about."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32


def derive_key(secret: str, purpose: bytes) -> bytes:
    """32 bytes for one purpose (HKDF-SHA256); those of another tell nothing of them."""
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=purpose).derive(secret.strip().encode())
