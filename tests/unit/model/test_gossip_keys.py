"""Gossip keys: whoever is a ring apart understands each other; none is ever shown."""

from __future__ import annotations

import base64
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.model.gossip_keys import KEYS_MAX, GossipKeys, parse_gossip_keys, rings_to

key = st.binary(min_size=32, max_size=32).map(lambda raw: base64.b64encode(raw).decode())


def understand(one: GossipKeys, other: GossipKeys) -> bool:
    return one.keys[0] in other.keys and other.keys[0] in one.keys


@given(key, st.lists(key, min_size=1, max_size=5, unique=True), st.integers(0, 3))
def test_members_a_ring_apart_understand_each_other(
    first: str, news: list[str], broken_at: int
) -> None:
    """Whenever a rotation is broken off, and another one begun, too."""
    news = [one for one in news if one != first]
    everywhere = GossipKeys((first,))
    for new in news:
        before = everywhere
        rings = rings_to(before, new)
        for one, following in pairwise((before, *rings)):
            assert understand(one, following)
        # Some have the ring that it was broken off at, others the one before; on disk it is that.
        everywhere = (before, *rings)[broken_at]
        for lagging in (before, *rings)[max(0, broken_at - 1) : broken_at + 1]:
            assert understand(lagging, rings_to(everywhere, "n" * 43 + "=")[0])


@given(key, key)
def test_in_the_end_the_new_key_is_the_only_one(old: str, new: str) -> None:
    assert rings_to(GossipKeys((old,)), new)[-1] == GossipKeys((new,))


@given(st.lists(key, min_size=1, max_size=KEYS_MAX))
def test_a_file_gives_what_was_written(keys: list[str]) -> None:
    ring = GossipKeys(tuple(keys))
    assert parse_gossip_keys(ring.text) == ring


@pytest.mark.parametrize("text", ["", "short", "x" * 44, f"{'A' * 43}=\n" * (KEYS_MAX + 1)])
def test_a_damaged_file_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        parse_gossip_keys(text)
    assert not text.strip() or text.split()[0] not in str(caught.value)


def test_keys_are_not_shown() -> None:
    ring = GossipKeys(("A" * 43 + "=",))
    assert "AAA" not in f"{ring} {ring!r}"
