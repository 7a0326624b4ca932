"""What guests say, as far as it can be read; what cannot is counted as theirs."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from sappers.model.known_types import UNREADABLE
from sappers.model.refusal import RefusalKind
from sappers.ports import Refusals

_T = TypeVar("_T")


def read_words(
    payload: bytes, kind: type[_T], bytes_max: int, allocation_id: str, refusals: Refusals
) -> _T | None:
    """A guest's JSON as a struct; None, and counted, where it is too long or none."""
    if len(payload) > bytes_max:
        refusals.count(RefusalKind.SIZE, allocation_id)
        return None
    try:
        return msgspec.json.decode(payload, type=kind)
    except UNREADABLE:
        refusals.count(RefusalKind.UNREADABLE, allocation_id)
        return None
