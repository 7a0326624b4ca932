"""Whom the hub lets in follows from what is committed and what members have proven."""

from __future__ import annotations

import immutables
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.hub_access import (
    RENEWED_WITHIN_SECONDS,
    SEED_LASTS_SECONDS,
    hub_access,
    is_let_in,
    may_say_keys,
    when_seed_ends,
)
from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import ForgetMember, PutHubKey, RevokeMember, SetMemberState
from sappers.model.hub import HubKey
from sappers.model.member import MemberState
from tests.unit.worlds import allocation, commit, founded, member

IDS = [f"m{number}" for number in range(1, 6)]
KEYS = {name: HubKey(name.upper(), f"shown by {name}") for name in IDS}
SERVERS = ("m1", "m2", "m3")
GUEST = allocation("a1")
some = st.sets(st.sampled_from(IDS))


def world(keyed: set[str], revoked: set[str] = frozenset()) -> ClusterState:
    return msgspec.structs.replace(
        founded(5),
        hub_servers=SERVERS,
        hub_keys=immutables.Map(dict.fromkeys(keyed, b"signed")),
        revoked=immutables.Map(dict.fromkeys(revoked, 1.0)),
    )


@given(proven=some, revoked=some, sealed=st.booleans())
def test_who_is_revoked_admits_nobody_and_is_no_server(
    proven: set[str], revoked: set[str], sealed: bool
) -> None:
    state = msgspec.structs.replace(world(proven, revoked), hub_seed_ends=0.0 if sealed else None)
    access = hub_access(state, {name: KEYS[name] for name in proven}, now=0.0)
    assert access.seed_signs != sealed
    assert set(access.signers) == {KEYS[name].signs for name in proven - revoked}
    left = {*SERVERS} - revoked
    shown = {KEYS[name].shows for name in left & proven}
    assert set(access.servers_show) == (shown if left <= proven or sealed else set())


@given(keyed=some, revoked=some, me=st.sampled_from(IDS))
def test_a_member_uses_its_key_once_all_servers_know_it(
    keyed: set[str], revoked: set[str], me: str
) -> None:
    used = is_let_in(world(keyed, revoked), me)
    assert used == (me in keyed - revoked and {*SERVERS} <= keyed)


def test_a_dead_server_keeps_nobody_from_using_its_key() -> None:
    state = world({"m1", "m2", "m4"})
    assert not is_let_in(state, "m4")
    state, _ = commit(state, SetMemberState("m3", MemberState.DEAD, "gone"))
    assert is_let_in(state, "m4")


def test_no_key_is_said_while_a_member_of_before_lives() -> None:
    new, old = member(1, has_hub_key=True), member(2)
    assert may_say_keys([new])
    assert not may_say_keys([new, old])
    assert may_say_keys([new, msgspec.structs.replace(old, state=MemberState.DEAD)])


@given(keyed=some, revoked=some, dead=some, now=st.floats(0, 1e9), said=st.floats(0, 1e9))
def test_the_seed_ends_once_all_who_live_have_keys_and_no_later_than_was_said(
    keyed: set[str], revoked: set[str], dead: set[str], now: float, said: float
) -> None:
    state = world(keyed, revoked)
    for name in dead:
        state, _ = commit(state, SetMemberState(name, MemberState.DEAD, "gone"))
    whole = {*IDS} - dead <= keyed | revoked
    assert when_seed_ends(state, now) == (now if whole else None)
    state = msgspec.structs.replace(state, hub_seed_ends=said)
    assert when_seed_ends(state, now) == (min(now, said) if whole else said)


@pytest.mark.parametrize("seconds", [-1.0, 1.0])
def test_guests_of_before_get_new_credentials_first(seconds: float) -> None:
    state = world(set())
    state = msgspec.structs.replace(state, allocations=immutables.Map({"a1": GUEST}))
    for name in IDS:
        assert state.hub_seed_ends is None
        state, _ = commit(state, PutHubKey(name, b"signed"), time=100.0)
    assert state.hub_seed_ends == 100.0 + SEED_LASTS_SECONDS
    access = hub_access(state, KEYS, 100.0 + SEED_LASTS_SECONDS + seconds)
    assert access.seed_signs == (seconds < 0)
    state, _ = commit(state, PutHubKey("m1", b"anew"), time=10.0)  # by another clock
    assert state.hub_seed_ends == 10.0 + SEED_LASTS_SECONDS


@given(since=st.floats(-10.0, 1000.0), ended=st.booleans())
def test_what_its_server_saw_of_guests_is_refused_once_they_have_other_credentials(
    since: float, ended: bool
) -> None:
    status = AllocationStatus.STOPPED if ended else AllocationStatus.HEALTHY
    guest = msgspec.structs.replace(GUEST, status=status)
    state = msgspec.structs.replace(
        world({*IDS}), allocations=immutables.Map({"a1": guest}), revoked=immutables.Map(m2=5000.5)
    )
    access = hub_access(state, KEYS, 5000.5 + since)
    # As long as such credentials may last, and not before all have been made anew.
    due = RENEWED_WITHIN_SECONDS <= since < SEED_LASTS_SECONDS
    assert access.seen_guests == (("a1",) if due and not ended else ())
    assert access.seen_until == (5000.5 if due else 0.0)


def test_a_newcomer_opens_nothing_and_who_is_revoked_says_nothing() -> None:
    state = founded(3)
    for name in SERVERS:
        state, done = commit(state, PutHubKey(name, b"signed"), time=100.0)
        assert not done.refused
    assert state.hub_seed_ends == 100.0
    again, done = commit(state, PutHubKey("m1", b"signed"), time=1.0)
    assert (again.hub_keys, again.hub_seed_ends) == (state.hub_keys, 100.0)
    assert not done.events
    _, done = commit(state, PutHubKey("m9", b"signed"))
    assert done.refused
    state, _ = commit(state, RevokeMember("m2"))
    _, done = commit(state, PutHubKey("m2", b"another"))
    assert "revoked" in done.refused
    state, _ = commit(state, SetMemberState("m2", MemberState.DEAD, "gone"))
    state, _ = commit(msgspec.structs.replace(state, electorate=("m1", "m3")), ForgetMember("m2"))
    assert set(state.hub_keys) == {"m1", "m3"}
