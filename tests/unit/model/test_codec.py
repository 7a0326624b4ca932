"""One wire form, however it is made."""

from __future__ import annotations

import immutables
import msgspec
import pytest

from sappers.model.codec import encode_state, encoded_state
from tests.unit.worlds import founded


@pytest.mark.parametrize("count", [0, 1, 15, 16, 499, 500, 501, 515, 66_000])
def test_a_state_in_pieces_is_the_state(count: int) -> None:
    requests = immutables.Map({f"request-{number}": number for number in range(count)})
    state = msgspec.structs.replace(founded(5), requests=requests)
    pieces = list(encoded_state(state))
    assert b"".join(pieces) == encode_state(state)
    assert max(map(len, pieces)) < 16_000, "one is a moment's work"
