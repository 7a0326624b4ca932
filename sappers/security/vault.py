"""Opens what `ansible-vault` has encrypted. Nothing is encrypted here.

The envelope: a header line, then hex of three hex texts, one a line: salt, HMAC-SHA256, ciphertext.
From password and salt PBKDF2 makes the key of AES-256-CTR, that of the HMAC, the first counter.
"""

from __future__ import annotations

import hashlib
import hmac
from binascii import Error, unhexlify
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

_ITERATIONS = 10_000
_KEY_BYTES = 32
_COUNTER_BYTES = 16
_BLOCK_BITS = 128
_VERSIONS = ("1.1", "1.2")


def open_vault(text: str, passwords: Sequence[str]) -> str:
    """What an envelope holds, by the first of the passwords that fits.

    Raises:
        ValueError: It is no envelope of Vault's, or no password fits; says which.
    """
    header, _, body = text.strip().partition("\n")
    words = header.strip().split(";")
    if len(words) < 3 or words[0] != "$ANSIBLE_VAULT":
        raise ValueError("it does not begin with $ANSIBLE_VAULT")
    if words[1] not in _VERSIONS or words[2].strip() != "AES256":
        raise ValueError(f"its format {words[1]} {words[2]} is not known")
    try:
        parts = unhexlify("".join(body.split())).split(b"\n")
        salt, digest, ciphertext = (unhexlify(part) for part in parts)
    except (Error, ValueError) as error:
        raise ValueError("it is damaged") from error
    for password in passwords:
        opened = _opened(password.encode(), salt, digest, ciphertext)
        if opened is not None:
            return opened
    raise ValueError("no password that is given fits")


def _opened(password: bytes, salt: bytes, digest: bytes, ciphertext: bytes) -> str | None:
    length = 2 * _KEY_BYTES + _COUNTER_BYTES
    made = hashlib.pbkdf2_hmac("sha256", password, salt, _ITERATIONS, length)
    key, hmac_key = made[:_KEY_BYTES], made[_KEY_BYTES : 2 * _KEY_BYTES]
    if not hmac.compare_digest(hmac.digest(hmac_key, ciphertext, "sha256"), digest):
        return None
    decryptor = Cipher(algorithms.AES(key), modes.CTR(made[2 * _KEY_BYTES :])).decryptor()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    unpadder = PKCS7(_BLOCK_BITS).unpadder()
    return (unpadder.update(padded) + unpadder.finalize()).decode("utf-8")
