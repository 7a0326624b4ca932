"""A few who wait are never driven out by the many of another address."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.strangers import who_makes_room

ADDRESSES = st.sampled_from("abcde")


@given(st.lists(ADDRESSES), st.integers(1, 5), st.integers(1, 12))
def test_the_limits_hold_and_nobody_goes_while_there_is_room(
    coming: list[str], each_max: int, all_max: int
) -> None:
    waiting: list[str] = []
    for newcomer in coming:
        gone = who_makes_room(waiting, newcomer, each_max=each_max, all_max=all_max)
        if gone is None:
            assert waiting.count(newcomer) < each_max and len(waiting) < all_max
        else:
            counts, paid = Counter(waiting), waiting.pop(gone)
            assert paid not in waiting[:gone]  # its oldest
            assert paid == newcomer or counts[paid] == max(counts.values())
        waiting.append(newcomer)
        assert len(waiting) <= all_max
        assert max(Counter(waiting).values()) <= each_max


def test_a_crowd_of_one_address_pays_for_itself() -> None:
    waiting = ["member", *["crowd"] * 3]
    assert who_makes_room(waiting, "crowd", each_max=3, all_max=10) == 1


def test_a_crowd_pays_for_a_member_when_all_places_are_taken() -> None:
    waiting = ["member", *["crowd"] * 3]
    assert who_makes_room(waiting, "other", each_max=3, all_max=4) == 1
