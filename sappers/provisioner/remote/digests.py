"""Digests by the interpreter's own code where the content is small.

`hashlib` loads OpenSSL first, a tenth of what an executor costs to start; it is quicker from some
megabytes on.
"""

from __future__ import annotations

import os
from typing import Any

SMALL_BYTES_MAX = 4 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024
# Those of Python 3.12 and newer come first.
_OWN = {"sha256": ("_sha2", "_sha256"), "sha1": ("_sha1",), "md5": ("_md5",)}


def new(name: str, size: int) -> Any:
    """A digest to be updated, as `hashlib.new` returns one.

    Args:
        size: How much is to come, in bytes.
    """
    for module in _OWN.get(name, ()) if size <= SMALL_BYTES_MAX else ():
        try:
            return getattr(__import__(module), name)()
        except ImportError:
            continue  # another version, or one that was built without it
    import hashlib

    return hashlib.new(name)


def of_file(path: str, *names: str) -> dict[str, str]:
    """Several digests of a file in one pass, hex."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        made = {name: new(name, size) for name in names}
        while True:
            chunk = file.read(_CHUNK_BYTES)
            if not chunk:
                return {name: digest.hexdigest() for name, digest in made.items()}
            for digest in made.values():
                digest.update(chunk)


def hex_of(name: str, content: bytes) -> str:
    """The digest of a content."""
    digest = new(name, len(content))
    digest.update(content)
    return str(digest.hexdigest())
