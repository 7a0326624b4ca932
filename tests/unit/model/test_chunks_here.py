"""What members tell each other of the chunks that they have."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.model.chunks_here import ChunksHere, chunks_here


@given(st.lists(st.tuples(st.integers(0, 999), st.booleans()), unique_by=lambda one: one[0]))
def test_what_is_told_is_what_is_heard(chunks: list[tuple[int, bool]]) -> None:
    order = [str(number) for number, _ in chunks]
    have = {str(number) for number, here in chunks if here}
    told = chunks_here(order, have)
    assert told.chunks(order) == have
    assert told.count == len(have)


@pytest.mark.parametrize(
    ("have", "meant"), [(b"", set()), (b"\x05", {"a", "c"}), (b"\xff\xff", {"a", "b", "c"})]
)
def test_what_is_told_may_be_of_any_length(have: bytes, meant: set[str]) -> None:
    assert ChunksHere(have, 0).chunks(["a", "b", "c"]) == meant


def test_an_answer_that_is_too_long_holds_nobody_up() -> None:
    order = [str(number) for number in range(2000)]
    before = time.process_time()
    assert len(ChunksHere(b"\xff" * (8 << 20), 2000).chunks(order)) == 2000
    assert time.process_time() - before < 2.0
