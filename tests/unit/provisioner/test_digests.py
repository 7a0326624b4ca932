"""The digests that executors make are those of hashlib, by whichever code they are made."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from sappers.provisioner.remote import digests

NAMES = st.sampled_from(["sha256", "sha1", "md5", "sha512", "sha224"])


@given(NAMES, st.binary(), st.integers(0, 2 * digests.SMALL_BYTES_MAX))
def test_they_are_hashlibs(name: str, content: bytes, size: int) -> None:
    digest = digests.new(name, size)
    digest.update(content)
    assert digest.hexdigest() == hashlib.new(name, content).hexdigest()
    assert digests.hex_of(name, content) == digest.hexdigest()
