"""What a member answers about images is not believed."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from sappers.api.image_calls import ImageCalls
from sappers.errors import ApiError
from sappers.model.image import SignedManifest


class _Liar:
    """Answers every question for a manifest with the same one."""

    def call(self, method: str, path: str) -> bytes:
        del method, path
        return msgspec.json.encode(SignedManifest(b"{}", ()))


def test_another_manifest_than_was_asked_for_is_refused() -> None:
    calls = ImageCalls(_Liar())  # type: ignore[arg-type]
    assert calls.signed(hashlib.sha256(b"{}").hexdigest()).manifest == b"{}"
    with pytest.raises(ApiError, match="another manifest"):
        calls.signed("0" * 64)
