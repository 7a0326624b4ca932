"""Chunks between this machine and members: each once, and none lost with a member that goes."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sappers.api import chunk_work
from sappers.api.chunk_work import move_chunks
from sappers.api.https_calls import Peer
from sappers.errors import ApiError, ImageError

A, B, C = (Peer(name, "10.0.0.1", 11000) for name in "abc")
CHUNKS = [f"{n:064x}" for n in range(40)]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(chunk_work, "PAUSE_SECONDS", 0.001)


class Moves:
    """Remembers who confirmed what; `trouble(member, chunk)` may raise first."""

    def __init__(self, trouble=lambda _member, _chunk: None):
        self.trouble = trouble
        self.confirmed: list[tuple[Peer, str]] = []
        self.lock = threading.Lock()

    def __call__(self, member, chunk):
        with self.lock:
            self.trouble(member, chunk)
            self.confirmed.append((member, chunk))


def test_each_chunk_moves_once():
    moves = Moves()
    assert move_chunks(CHUNKS, [A, B, C], moves) == {}
    assert Counter(chunk for _, chunk in moves.confirmed) == Counter(CHUNKS)


def test_nothing_to_move_and_nobody_to_move_it_with():
    assert move_chunks([], [A], Moves()) == {}
    assert move_chunks(CHUNKS, [], Moves()) == {}


def test_what_a_dying_member_did_not_confirm_goes_to_others():
    calls = Counter()

    def trouble(member, _chunk):
        calls[member] += 1
        if member == A and calls[A] > 3:
            raise ApiError("a broke off")

    moves = Moves(trouble)
    given_up = move_chunks(CHUNKS, [A, B], moves)
    assert given_up.keys() <= {A}
    assert sorted(chunk for _, chunk in moves.confirmed) == CHUNKS


def test_one_hiccup_gives_nobody_up():
    failed = []

    def trouble(_member, _chunk):
        if not failed:
            failed.append(1)
            raise ApiError("broke off")

    moves = Moves(trouble)
    assert move_chunks(CHUNKS, [A], moves) == {}
    assert sorted(chunk for _, chunk in moves.confirmed) == CHUNKS


def test_a_refusal_is_final_for_the_member():
    def trouble(member, _chunk):
        if member == A:
            raise ApiError("no room for an image", status=400)

    moves = Moves(trouble)
    given_up = move_chunks(CHUNKS, [A, B], moves)
    assert {member for member, _ in moves.confirmed} == {B}
    assert given_up.keys() <= {A}
    alone = move_chunks(CHUNKS, [A], Moves(trouble))
    assert alone[A].message == "no room for an image"


def test_a_busy_member_is_waited_for():
    left = [5]

    def trouble(_member, _chunk):
        if left[0]:
            left[0] -= 1
            raise ApiError("busy", status=503)

    moves = Moves(trouble)
    assert move_chunks(CHUNKS, [A], moves) == {}
    assert sorted(chunk for _, chunk in moves.confirmed) == CHUNKS


def test_what_is_this_machines_own_fault_ends_everything():
    def trouble(_member, chunk):
        if chunk == CHUNKS[5]:
            raise ImageError("chunk 5 is damaged here")

    with pytest.raises(ImageError, match="chunk 5"):
        move_chunks(CHUNKS, [A, B], Moves(trouble))


@settings(deadline=None, max_examples=60)
@given(
    holders=st.fixed_dictionaries(
        {member: st.frozensets(st.sampled_from(CHUNKS)) for member in (A, B, C)}
    ),
    broken=st.sets(st.sampled_from([A, B, C])),
)
def test_a_chunk_comes_from_one_that_has_it_if_any_such_works(holders, broken):
    def trouble(member, chunk):
        assert chunk in holders[member]
        if member in broken:
            raise ApiError("broke off", status=500)

    moves = Moves(trouble)
    given_up = move_chunks(CHUNKS, [A, B, C], moves, holders=holders)
    reachable = set().union(*(holders[one] for one in (A, B, C) if one not in broken))
    assert sorted(chunk for _, chunk in moves.confirmed) == sorted(reachable)
    assert given_up.keys() <= broken
