from __future__ import annotations

import hashlib
import itertools
import tracemalloc
import zlib

import immutables
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sappers.api.reads import pick_events
from sappers.consensus.replica import Replica
from sappers.consensus.state_machine import Outcome
from sappers.decisions.backup import in_pieces, portable
from sappers.model.backup import PIECE_WITHIN_SECONDS
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import decode_state, encode_state
from sappers.model.commands import (
    Entry,
    NoOperation,
    Proposal,
    PutWorkload,
    RegisterMember,
    RestorePiece,
    StopWorkload,
    TrustImageKey,
    encode_proposal,
)
from sappers.model.event import event_digest
from sappers.model.image import ImageKey
from sappers.model.repair import RepairKey, RepairLogin
from sappers.model.repair_commands import PutRepairKey
from tests.unit.worlds import commit, founded, member, workload

KEY = ImageKey("a" * 64, "anna")
OTHER_KEY = ImageKey("b" * 64, "ben")


def old_cluster() -> ClusterState:
    """As it was when it was backed up."""
    state = founded(5)
    state, _ = commit(state, TrustImageKey(KEY))
    state, _ = commit(state, PutWorkload(workload("web", count=2)))
    state, _ = commit(state, PutWorkload(workload("gone")))
    state, _ = commit(state, StopWorkload("gone"))
    login = RepairLogin("m1", 22, "root", become=False, host_keys=())
    state, _ = commit(state, PutRepairKey(RepairKey("ssh-ed25519 AAAA", b"sealed"), (login,)))
    return state


def new_cluster() -> ClusterState:
    """Other hosts, just founded."""
    state = msgspec.structs.replace(founded(3), cluster_id="c2")
    state, _ = commit(state, TrustImageKey(OTHER_KEY))
    state, _ = commit(state, RegisterMember(member(9)))
    return state


def cut(state: ClusterState, count: int, *, replace: bool = False) -> list[RestorePiece]:
    """A state in so many pieces; a real one is in one piece here."""
    (whole,) = in_pieces(state, replace=replace)
    size = -(-len(whole.content) // count)
    return [
        RestorePiece(
            whole.digest,
            number,
            count,
            whole.content[number * size : (number + 1) * size],
            replace=replace,
        )
        for number in range(count)
    ]


def given_back(state: ClusterState, *pieces: RestorePiece) -> tuple[ClusterState, Outcome]:
    outcome = Outcome()
    for piece in pieces:
        state, outcome = commit(state, piece)
    return state, outcome


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=4), st.integers(0, 5))
@settings(max_examples=40)
def test_pieces_take_effect_together_in_any_order_and_however_often(
    order: list[int], again: list[int], stop: int
) -> None:
    pieces, before = cut(old_cluster(), 6), new_cluster()
    half, outcome = given_back(before, *(pieces[number] for number in order[:stop]))
    assert (half.workloads, half.images, half.events) == (
        before.workloads,
        before.images,
        before.events,
    )
    assert outcome.events == ()
    whole, _ = given_back(half, *(pieces[n] for n in (*order[stop:], *again)))
    assert set(whole.workloads) == {"web"}
    assert whole.restoring is None
    assert whole.restored == pieces[0].digest
    assert [event.kind for event in whole.events].count("cluster.restored") == 1


def test_the_chain_goes_on_where_the_old_cluster_ended() -> None:
    old, new = old_cluster(), new_cluster()
    state, outcome = given_back(new, *cut(old, 3))
    assert not outcome.refused
    first = outcome.events[0]
    assert (first.kind, first.previous, first.number) == (
        "cluster.restored",
        old.event_head,
        old.event_count + 1,
    )
    assert new.event_head[:12] in first.text
    assert state.newest_events["workload/web"] == first.number
    for before, after in itertools.pairwise(state.events):
        assert (after.previous, after.number) == (event_digest(before), before.number + 1)
    assert event_digest(state.events[-1]) == state.event_head
    assert state.events[: len(old.events)] == old.events


def test_hosts_and_votes_are_the_new_ones_and_the_rest_is_the_backups() -> None:
    old, new = old_cluster(), new_cluster()
    state, _ = given_back(new, *cut(old, 2))
    assert (state.cluster_id, state.members, state.electorate) == (
        "c2",
        new.members,
        new.electorate,
    )
    assert set(state.image_keys) == {KEY, OTHER_KEY}
    assert state.repair_key is None
    assert state.workloads["web"].revision == state.index
    assert state.allocations == new.allocations
    joined = {event.subject for event in state.events[-4:] if event.kind == "member.joined"}
    assert joined == set(new.members)


def test_each_key_that_a_backup_brings_is_an_event() -> None:
    """Else trust came in without a word; one that the cluster had is not told."""
    old, _ = commit(old_cluster(), TrustImageKey(OTHER_KEY))
    state, outcome = given_back(new_cluster(), *cut(old, 2))
    told = [event for event in outcome.events if event.kind == "image-key.trusted"]
    assert [event.subject for event in told] == [KEY.key]
    assert told[0].cause == outcome.events[0].number
    assert state.newest_events[f"image-key/{KEY.key}"] == told[0].number


def test_who_was_shut_out_stays_out() -> None:
    old = old_cluster()
    old = msgspec.structs.replace(old, revoked=old.revoked.set("m77", 5.0).set("m1", 6.0))
    new = msgspec.structs.replace(new_cluster(), revoked=immutables.Map({"m78": 7.0}))
    state, _ = given_back(new, *cut(old, 2))
    assert "m1" in new.members
    assert dict(state.revoked) == {"m77": 5.0, "m1": 6.0, "m78": 7.0}


def test_a_cluster_that_is_in_use_is_left_alone_unless_that_is_meant() -> None:
    used, _ = commit(new_cluster(), PutWorkload(workload("mine")))
    state, outcome = given_back(used, *cut(old_cluster(), 2))
    assert "it runs mine" in outcome.refused
    assert (state.workloads, state.restoring) == (used.workloads, None)
    state, _ = given_back(used, *cut(old_cluster(), 2, replace=True))
    assert set(state.workloads) == {"web"}
    # Given again, as by a run that was interrupted at its end, it is no other cluster's.
    again, outcome = given_back(state, *cut(old_cluster(), 2))
    assert (again.workloads, outcome.refused) == (state.workloads, "")


def test_the_same_backup_is_given_back_again_once_something_else_was_wanted() -> None:
    pieces = cut(old_cluster(), 2)
    state, _ = given_back(new_cluster(), *pieces)
    same, _ = commit(state, PutWorkload(state.workloads["web"]), RegisterMember(member(8)))
    again, outcome = given_back(same, *pieces)
    assert outcome.events == ()  # nothing was wanted: a run that goes on changes nothing
    state, _ = commit(state, StopWorkload("web"))
    again, outcome = given_back(state, *pieces)
    assert outcome.events[0].kind == "cluster.restored"
    assert set(again.workloads) == {"web"}
    state, _ = commit(again, PutWorkload(workload("mine")))
    _, outcome = given_back(state, *pieces)
    assert "it runs mine" in outcome.refused
    state, outcome = given_back(state, *cut(old_cluster(), 2, replace=True))
    assert set(state.workloads) == {"web"}


def test_what_is_no_backup_is_refused_and_leaves_no_trace() -> None:
    state = new_cluster()
    bomb = zlib.compress(b"\x93")
    wrong = [
        RestorePiece("0" * 64, 0, 1, b"junk"),
        RestorePiece(hashlib.sha256(b"junk").hexdigest(), 0, 1, b"junk"),
        RestorePiece(hashlib.sha256(bomb).hexdigest(), 0, 1, bomb),
        RestorePiece(hashlib.sha256(bomb[:-4]).hexdigest(), 0, 1, bomb[:-4]),
        RestorePiece("0" * 64, 3, 2, b"x"),
        RestorePiece("0" * 64, 0, 10_000, b"x"),
        RestorePiece("0" * 64, 0, 2, b""),
    ]
    for piece in wrong:
        after, outcome = commit(state, piece)
        assert outcome.refused
        assert (after.workloads, after.events) == (state.workloads, state.events)
        assert after.restoring is None
    _, outcome = commit(ClusterState(index=1), cut(old_cluster(), 1)[0])
    assert "not founded" in outcome.refused


def packed(**changes: object) -> RestorePiece:
    """A backup that no `in_pieces` would make."""
    (piece,) = in_pieces(old_cluster(), replace=False)
    taken = msgspec.msgpack.decode(zlib.decompress(piece.content)) | changes
    content = zlib.compress(msgspec.msgpack.encode(taken), 9)
    return RestorePiece(hashlib.sha256(content).hexdigest(), 0, 1, content)


def test_a_bomb_is_refused_and_takes_no_more_memory_than_a_state_may() -> None:
    """A few kB would become gigabytes in each voter, whenever the log is read again."""
    packer = zlib.compressobj(9)
    zeros = bytes(1 << 20)
    content = b"".join(packer.compress(zeros) for _ in range(200)) + packer.flush()
    many = b"\xdd" + (30 << 20).to_bytes(4, "big") + b"\x90" * (30 << 20)
    for bomb in (content, zlib.compress(b"\x81\xa6events" + many, 9)):
        piece = RestorePiece(hashlib.sha256(bomb).hexdigest(), 0, 1, bomb)
        tracemalloc.start()
        _, outcome = commit(new_cluster(), piece)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert outcome.refused
        assert peak < 96 << 20


WORKLOAD = msgspec.to_builtins(workload("web"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "../../.."},
        {"memory_mib": -1},
        {"count": 10**9},
        {"guest_port": 0},
        {"host_port": 70_000},
        {"role": "monitor"},
        {"links": ["*"]},
        {"links": ["a"] * 33},
        {"service": "*"},
        {"image": {"name": "web", "digest": "../x"}},
    ],
)
def test_a_workload_that_the_api_would_refuse_comes_back_from_no_backup(
    wrong: dict[str, object],
) -> None:
    one = WORKLOAD | wrong
    _, outcome = commit(new_cluster(), packed(workloads={one["name"]: one}))
    assert "no state to restore" in outcome.refused
    fine = {"web": WORKLOAD | {"links": ["shop"], "service": "front"}}
    _, outcome = commit(new_cluster(), packed(workloads=fine))
    assert not outcome.refused


def test_each_thing_stands_under_its_own_name_and_in_no_number() -> None:
    for wrong in (
        {"workloads": {"other": WORKLOAD}},
        {"images": {"f" * 64: {}}},
        {"image_keys": [{"key": "x", "owner": "eve"}]},
        {"stopped_by_hand": ["../x"]},
        {"revoked": {"../x": 1.0}},
        {"stopped_by_hand": ["web"] * 10_001},
        {"members": {}},
        {"events": [msgspec.to_builtins(old_cluster().events[0]) | {"x": [[[]]]}]},
    ):
        state, outcome = commit(new_cluster(), packed(**wrong))
        assert "no state to restore" in outcome.refused, wrong
        assert not state.workloads


def test_what_is_restored_is_of_the_types_that_it_is_compared_with() -> None:
    state, _ = given_back(new_cluster(), *cut(old_cluster(), 1))
    assert state.workloads["web"] == workload("web", count=2, revision=state.index)
    assert KEY in state.image_keys
    assert state.images == old_cluster().images


def test_a_backups_pieces_are_the_same_each_time() -> None:
    """Else a run that is made again could not go on where another one stopped."""
    state = old_cluster()
    copy = decode_state(encode_state(state))
    assert in_pieces(state, replace=False) == in_pieces(copy, replace=False)


def test_no_key_of_healers_is_in_a_backup() -> None:
    saved = encode_state(portable(old_cluster()))
    assert b"sealed" not in saved.replace(b"unsealed", b"")
    assert portable(old_cluster()).repair_logins == ClusterState().repair_logins


def test_whoever_writes_events_down_gets_the_restored_chain_alone() -> None:
    new = new_cluster()
    replica = Replica(new)
    commands = [RegisterMember(member(8)), *cut(old_cluster(), 2)]
    for number, command in enumerate(commands, start=new.index + 1):
        proposal = Proposal(f"x{number}", "m1", 1.0, (command,), by="operator/anna")
        assert replica.advance([Entry(number, 1, encode_proposal(proposal))])
    assert replica.events_after(0) == replica.state.events


def test_indexes_of_the_old_log_are_not_taken_for_the_new_ones() -> None:
    old = msgspec.structs.replace(
        old_cluster(),
        events=tuple(msgspec.structs.replace(e, index=e.index + 100) for e in old_cluster().events),
    )
    state, outcome = given_back(new_cluster(), *cut(old, 1))
    state, later = commit(state, RegisterMember(member(8)))
    assert pick_events(state.events, outcome.events[0].index - 1, 100) == (
        *outcome.events,
        *later.events,
    )


def test_a_backup_that_was_given_up_half_way_is_in_no_snapshot_for_ever() -> None:
    first, second, third = cut(old_cluster(), 3)
    state, _ = commit(new_cluster(), first, time=1000.0)
    state, _ = commit(state, second, time=1000.0 + PIECE_WITHIN_SECONDS)
    assert state.restoring is not None, "the next one came in time"
    done, _ = commit(state, third, time=1001.0 + PIECE_WITHIN_SECONDS)
    assert done.restored == first.digest
    state, _ = commit(state, NoOperation(), time=1001.0 + 2 * PIECE_WITHIN_SECONDS)
    assert state.restoring is None
    assert decode_state(encode_state(state)) == state
    state, _ = given_back(state, first, second, third)
    assert state.restored == first.digest, "it can be given anew"
