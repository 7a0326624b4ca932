"""A NATS credentials file: the user's JWT, and the nkey seed that signs the server's nonce.

The nkeys package would bring PyNaCl, 4 MB and its import, for this one signature. OpenSSL is in the
guest for TLS and signs Ed25519 as well, so it is asked directly.
"""

from __future__ import annotations

import base64
import ctypes
import re

_ED25519 = 1087  # EVP_PKEY_ED25519
_SEED_PREFIX_BYTES, _SEED_BYTES, _SIGNATURE_BYTES = 2, 32, 64
_SECTION = re.compile(r"-+BEGIN [^-]+-+\s*(\S+)\s*-+END [^-]+-+")


class Credentials:
    """What a credentials file says; signs, and never shows the seed.

    Raises:
        ValueError: The text is no credentials file.
    """

    def __init__(self, text: str) -> None:
        sections = _SECTION.findall(text)
        if len(sections) != 2:
            raise ValueError("a credentials file has a JWT and a seed")
        self.jwt = sections[0].encode()
        self._seed = seed_bytes(sections[1])

    def sign(self, nonce: str) -> bytes:
        """The base64 signature that proves possession of the seed."""
        return base64.b64encode(sign_ed25519(self._seed, nonce.encode()))


def seed_bytes(encoded: str) -> bytes:
    """The Ed25519 seed inside an encoded nkey seed: two bytes of prefix, seed, checksum.

    Raises:
        ValueError: It is no nkey seed.
    """
    raw = base64.b32decode(encoded + "=" * (-len(encoded) % 8))
    if not encoded.startswith("S") or len(raw) != _SEED_PREFIX_BYTES + _SEED_BYTES + 2:
        raise ValueError("not an nkey seed")
    return raw[_SEED_PREFIX_BYTES : _SEED_PREFIX_BYTES + _SEED_BYTES]


def sign_ed25519(seed: bytes, message: bytes) -> bytes:
    """The 64-byte signature of RFC 8032, by libcrypto.

    Raises:
        OSError: libcrypto refuses.
    """
    library = _libcrypto()
    key = library.EVP_PKEY_new_raw_private_key(_ED25519, None, seed, len(seed))
    context = library.EVP_MD_CTX_new()
    try:
        signature = ctypes.create_string_buffer(_SIGNATURE_BYTES)
        length = ctypes.c_size_t(_SIGNATURE_BYTES)
        if (
            not key
            or library.EVP_DigestSignInit(context, None, None, None, key) != 1
            or library.EVP_DigestSign(
                context, signature, ctypes.byref(length), message, len(message)
            )
            != 1
        ):
            raise OSError("libcrypto cannot sign with Ed25519")
        return signature.raw[: length.value]
    finally:
        library.EVP_MD_CTX_free(context)
        library.EVP_PKEY_free(key)


def _libcrypto() -> ctypes.CDLL:
    # By name, not through ctypes.util: that asks programs a guest does not have.
    library = ctypes.CDLL("libcrypto.so.3")
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    for name, result, arguments in (
        ("EVP_PKEY_new_raw_private_key", pointer, (ctypes.c_int, pointer, ctypes.c_char_p, size)),
        ("EVP_MD_CTX_new", pointer, ()),
        ("EVP_MD_CTX_free", None, (pointer,)),
        ("EVP_PKEY_free", None, (pointer,)),
        ("EVP_DigestSignInit", ctypes.c_int, (pointer,) * 5),
        ("EVP_DigestSign", ctypes.c_int, (pointer, pointer, pointer, ctypes.c_char_p, size)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
