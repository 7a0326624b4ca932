from __future__ import annotations

from typing import get_args

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sappers.consensus.state_machine import _STEPS, apply
from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import REQUESTS_KEPT, ClusterState
from sappers.model.codec import decode_state, encode_state
from sappers.model.commands import (
    Command,
    DistrustImageKey,
    Entry,
    ForgetAllocation,
    FoundCluster,
    NoOperation,
    PlaceAllocation,
    Proposal,
    PutImage,
    PutWorkload,
    RegisterMember,
    RemoveImage,
    ReportAllocation,
    SetHub,
    SetMemberState,
    StopAllocation,
    StopWorkload,
    TrustImageKey,
    encode_proposal,
)
from sappers.model.event import event_digest
from sappers.model.image import ClusterImage, ImageKey
from sappers.model.member import MemberState
from tests.unit.worlds import CLUSTER_IMAGE, allocation, commit, founded, member, workload

CLUSTER_OTHER = ClusterImage("other", "e" * 64, "nanos", 1, 0.0)


def placed(state: ClusterState, allocation_id: str = "a1") -> ClusterState:
    state, _ = commit(state, PutWorkload(workload()))
    copy = allocation(allocation_id, revision=state.workloads["hello"].revision)
    state, outcome = commit(state, PlaceAllocation(copy, "room"), time=5.0)
    assert not outcome.refused
    return state


def test_each_command_has_its_step() -> None:
    assert set(_STEPS) == set(get_args(Command))


def test_another_service_name_replaces_no_guest_and_other_links_do() -> None:
    state, _ = commit(founded(), PutWorkload(workload()))
    revision = state.workloads["hello"].revision
    state, _ = commit(state, PutWorkload(workload(service="shop", count=2)))
    assert state.workloads["hello"] == workload(service="shop", count=2, revision=revision)
    state, _ = commit(state, PutWorkload(workload(service="shop", links=("db",))))
    assert state.workloads["hello"].links == ("db",)
    assert state.workloads["hello"].revision > revision


def test_a_cluster_is_founded_once() -> None:
    state = founded()
    state, outcome = commit(state, FoundCluster("other", ("m9",)))
    assert "already" in outcome.refused
    assert state.cluster_id == "c1"
    assert state.electorate == ("m1", "m2", "m3")


def test_an_entry_is_applied_once_per_request() -> None:
    state, _ = commit(founded(), PutWorkload(workload()), request_id="same")
    revision = state.workloads["hello"].revision
    state, _ = commit(state, StopWorkload("hello"))
    state, outcome = commit(state, PutWorkload(workload()), request_id="same")
    assert outcome.refused == ""
    assert "hello" not in state.workloads
    assert revision > 0


def test_what_a_leader_decided_in_another_term_is_refused() -> None:
    state, outcome = commit(founded(), PutWorkload(workload()), term=4, leader_term=3)
    assert outcome.refused == "decided in term 3, committed in term 4"
    assert not state.workloads


def test_an_entry_takes_effect_as_a_whole_or_not_at_all() -> None:
    before = founded()
    after, outcome = commit(before, PutWorkload(workload()), StopAllocation("nothing", "test"))
    assert "no allocation nothing" in outcome.refused
    assert msgspec.structs.replace(after, index=before.index) == before


def test_garbage_is_refused_and_only_moves_the_index() -> None:
    before = founded()
    not_text = encode_proposal(Proposal("XX", "a", 1.0, ())).replace(b"XX", b"\xff\xff")
    apply(before, Entry(before.index + 1, 1, not_text))
    for garbage in (b"\x93garbage", b"\x81\xa4more" + b"\x91" * 100_000):
        after, outcome = apply(before, Entry(before.index + 1, 1, garbage))
        assert "no proposal" in outcome.refused
        assert after.index == before.index + 1
        assert msgspec.structs.replace(after, index=before.index) == before


def test_a_write_is_remembered_for_as_many_more_and_not_for_ever() -> None:
    other = workload(name="other")
    state, _ = commit(founded(), PutWorkload(workload()), request_id="same")
    for number in range(REQUESTS_KEPT):
        state, _ = commit(state, PutWorkload(other), request_id=f"r{number}")
        state, _ = commit(state, NoOperation(), request_id=f"read{number}")
    again, outcome = commit(state, StopWorkload("hello"), request_id="same")
    assert (again.workloads, outcome.events) == (state.workloads, ())
    assert len(again.requests) + len(again.older_requests) <= 2 * REQUESTS_KEPT
    for number in range(REQUESTS_KEPT):
        state, _ = commit(state, PutWorkload(other), request_id=f"s{number}")
    again, _ = commit(state, StopWorkload("hello"), request_id="same")
    assert "hello" not in again.workloads


def test_a_workload_put_twice_keeps_its_revision() -> None:
    state, _ = commit(founded(), PutWorkload(workload()))
    again, outcome = commit(state, PutWorkload(workload()))
    assert again.workloads == state.workloads
    assert outcome.events == ()
    changed, _ = commit(again, PutWorkload(workload(memory_mib=256)))
    assert changed.workloads["hello"].revision > state.workloads["hello"].revision


def test_more_copies_of_the_same_are_no_other_revision() -> None:
    state, _ = commit(founded(), PutWorkload(workload()))
    revision = state.workloads["hello"].revision
    state, _ = commit(state, PutWorkload(workload(count=3)))
    assert (state.workloads["hello"].count, state.workloads["hello"].revision) == (3, revision)
    state, _ = commit(state, PutWorkload(workload(count=3, memory_mib=256)))
    assert state.workloads["hello"].revision == state.index


def test_placing_needs_a_living_member_and_the_current_revision() -> None:
    state = placed(founded())
    good = state.allocations["a1"]
    stale = msgspec.structs.replace(good, id="a2", revision=good.revision - 1)
    _, outcome = commit(state, PlaceAllocation(stale, ""))
    assert "changed since" in outcome.refused
    state, _ = commit(state, SetMemberState("m2", MemberState.DEAD, "gossip"))
    _, outcome = commit(
        state, PlaceAllocation(msgspec.structs.replace(good, id="a3", member_id="m2"), "")
    )
    assert "is gone" in outcome.refused


def test_a_terminal_allocation_stays_so_until_forgotten() -> None:
    state = placed(founded())
    _, outcome = commit(state, ForgetAllocation("a1"))
    assert "not ended" in outcome.refused
    state, _ = commit(state, ReportAllocation("a1", AllocationStatus.LOST, "its member is dead"))
    state, outcome = commit(state, ReportAllocation("a1", AllocationStatus.HEALTHY, "back"))
    assert "lost already" in outcome.refused
    state, _ = commit(state, ForgetAllocation("a1"))
    assert not state.allocations


def test_a_changed_reason_alone_makes_no_event_and_keeps_the_time() -> None:
    state = placed(founded())
    state, _ = commit(state, ReportAllocation("a1", AllocationStatus.UNHEALTHY, "one"), time=7.0)
    state, outcome = commit(
        state, ReportAllocation("a1", AllocationStatus.UNHEALTHY, "two"), time=9.0
    )
    assert outcome.events == ()
    assert state.allocations["a1"].reason == "two"
    assert state.allocations["a1"].changed_at == 7.0


def test_a_member_that_moves_keeps_its_id() -> None:
    state, outcome = commit(founded(), RegisterMember(member(2, address="10.9.9.9")))
    assert state.members["m2"].address == "10.9.9.9"
    assert [event.kind for event in outcome.events] == ["member.moved"]


def test_the_hub_runs_on_known_members_only() -> None:
    state, outcome = commit(founded(), SetHub(("m1", "m9")))
    assert "no member m9" in outcome.refused
    state, outcome = commit(state, SetHub(("m1", "m2", "m3")), term=1)
    assert state.hub_servers == ("m1", "m2", "m3")
    assert outcome.events[0].text == "the hub runs on host1, host2, host3"


def test_events_are_chained_and_a_changed_past_shows() -> None:
    state = placed(founded())
    for before, after in zip(state.events, state.events[1:], strict=False):
        assert after.previous == event_digest(before)
    forged = msgspec.structs.replace(state.events[0], text="nothing happened")
    assert state.events[1].previous != event_digest(forged)


def test_a_snapshot_is_the_state() -> None:
    state = placed(founded())
    assert decode_state(encode_state(state)) == state


_commands = st.one_of(
    st.builds(RegisterMember, st.builds(member, st.integers(1, 4))),
    st.builds(
        SetMemberState,
        st.sampled_from(["m1", "m2", "m9"]),
        st.sampled_from(MemberState),
        st.just("test"),
    ),
    st.builds(PutWorkload, st.builds(workload, st.sampled_from(["a", "b"]))),
    st.builds(StopWorkload, st.sampled_from(["a", "b"])),
    st.builds(StopAllocation, st.sampled_from(["a1", "a2"]), st.just("test")),
    st.builds(
        ReportAllocation,
        st.sampled_from(["a1", "a2"]),
        st.sampled_from(AllocationStatus),
        st.text(max_size=3),
    ),
    st.builds(ForgetAllocation, st.sampled_from(["a1", "a2"])),
    st.builds(SetHub, st.sampled_from([("m1",), ("m1", "m9")])),
    st.builds(PutImage, st.sampled_from([CLUSTER_IMAGE, CLUSTER_OTHER])),
    st.builds(RemoveImage, st.sampled_from([CLUSTER_IMAGE.digest, "0" * 64])),
    st.builds(TrustImageKey, st.builds(ImageKey, st.sampled_from("ab"), st.just("somebody"))),
    st.builds(DistrustImageKey, st.sampled_from("ab")),
    st.just(NoOperation()),
)
_proposals = st.builds(
    Proposal,
    request_id=st.sampled_from([f"r{n}" for n in range(20)]),
    proposer=st.just("m1"),
    time=st.floats(0, 1e9),
    commands=st.lists(_commands, max_size=4).map(tuple),
    leader_term=st.sampled_from([None, 1, 2]),
)


@given(st.lists(st.one_of(_proposals.map(encode_proposal), st.binary(max_size=20)), max_size=30))
def test_any_log_leads_to_one_state_and_never_raises(payloads: list[bytes]) -> None:
    entries = [Entry(index, 1 + index // 10, payload) for index, payload in enumerate(payloads, 1)]
    whole = ClusterState()
    for entry in entries:
        whole, _ = apply(whole, entry)
    half = ClusterState()
    for entry in entries[: len(entries) // 2]:
        half, _ = apply(half, entry)
    resumed = decode_state(encode_state(half))
    for entry in entries[len(entries) // 2 :]:
        resumed, _ = apply(resumed, entry)
    assert encode_state(resumed) == encode_state(whole) or resumed == whole
