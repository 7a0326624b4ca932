"""Members of two versions at one log: what both know means the same, and else one stands still."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.agent.clock import SystemClock
from sappers.config import RaftSettings
from sappers.consensus.layer import RaftNode
from sappers.consensus.raft_log import RaftLog
from sappers.consensus.replica import Replica
from sappers.consensus.state_machine import apply
from sappers.errors import ProposalRejected, UpgradeNeeded
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import decode_known_part, decode_state, encode_state
from sappers.model.commands import (
    AdoptFormat,
    Command,
    Entry,
    FoundCluster,
    NoOperation,
    Proposal,
    SetHub,
    StopWorkload,
)
from sappers.model.view import Genesis
from tests.unit.raft_worlds import Answered, NewWorld, World, new_world, proposal
from tests.unit.two_formats import NEW, OLD, Mark, of_format

__all__ = ["new_world"]

FOUNDED = FoundCluster("cluster", ("v0", "v1", "v2"))


def entries(*proposals: tuple[Command | Mark, ...]) -> list[Entry]:
    return [
        Entry(number, 1, proposal(f"r{number}", *one)) for number, one in enumerate(proposals, 2)
    ]


def replica_of(known: int, log: list[Entry]) -> Replica:
    one = Replica()
    with of_format(known):
        assert one.advance(log)
    return one


def test_a_command_that_the_log_has_no_format_for_is_refused_by_both() -> None:
    log = entries((FOUNDED,), (Mark("early"),), (Mark("early"), SetHub(())), (SetHub(()),))
    old, new = replica_of(OLD, log), replica_of(NEW, log)
    assert old.state == new.state
    assert not old.halted
    assert new.state.stopped_by_hand == ()
    with of_format(NEW):
        _, outcome = apply(ClusterState(index=2, format=OLD), log[1])
    assert outcome.refused == f"it needs format {NEW} of the log: {OLD} now"


def test_a_new_field_counts_by_what_the_entry_says() -> None:
    assert msgspec.msgpack.decode(proposal("r", FOUNDED, Mark("x")))["format"] == NEW
    # An old member takes the fields that it knows for all there are.
    changed = msgspec.msgpack.decode(proposal("r", StopWorkload("web")))
    changed |= {"format": NEW, "commands": [changed["commands"][0] | {"gently": True}]}
    entry = Entry(2, 1, msgspec.msgpack.encode(changed))
    state, outcome = apply(ClusterState(index=1), entry)
    assert outcome.refused == f"it needs format {NEW} of the log: 0 now"
    assert state == ClusterState(index=2, term=1)


def test_once_all_know_it_the_log_has_the_format_and_the_command_works() -> None:
    log = entries((FOUNDED,), (AdoptFormat(NEW),), (Mark("late"),), (AdoptFormat(OLD),))
    new = replica_of(NEW, log)
    assert (new.state.format, new.state.stopped_by_hand) == (NEW, ("late",))
    assert [event.kind for event in new.state.events] == ["cluster.founded", "format.adopted"]


def test_who_does_not_know_the_format_stands_still_before_it() -> None:
    log = entries((FOUNDED,), (AdoptFormat(NEW),), (Mark("late"),))
    old = replica_of(OLD, log)
    assert (old.state.index, old.state.format) == (2, 0)
    assert f"the log has format {NEW}, and this version knows {OLD} at most" in old.halted
    later = replica_of(NEW, log).state
    with of_format(OLD):
        assert not old.replace(later)
        assert old.advance(log[1:])
        with pytest.raises(UpgradeNeeded):
            decode_state(encode_state(later))
        assert decode_known_part(encode_state(later)) == later
        fresh = Replica()
        fresh.load(encode_state(later))
        assert (fresh.state.index, bool(fresh.halted)) == (1, True)
    again = Replica(old.state)  # as another version, after a restart
    with of_format(NEW):
        assert again.advance(log[1:])
    assert again.state == later


_ANY = st.sampled_from([
    (Mark("a"),), (SetHub(()),), (NoOperation(),), (AdoptFormat(OLD),),
    (AdoptFormat(NEW),), (AdoptFormat(NEW), Mark("d")), (StopWorkload("web"),),
])  # fmt: skip


@given(st.lists(_ANY, max_size=8))
def test_two_versions_never_have_different_states_at_one_index(
    proposals: list[tuple[Command | Mark, ...]],
) -> None:
    log = entries((FOUNDED,), *proposals)
    log.append(Entry(len(log) + 2, 1, b"garbage"))
    old, new = Replica(), Replica()
    for entry in log:
        with of_format(NEW):
            new.advance([entry])
        if old.halted:
            continue
        with of_format(OLD):
            old.advance([entry])
        if not old.halted:
            assert old.state == new.state
    assert bool(old.halted) is (new.state.format > OLD)


def test_a_state_of_today_has_format_0() -> None:
    plain = msgspec.msgpack.decode(encode_state(ClusterState(index=7)))
    del plain["format"]
    assert decode_state(msgspec.msgpack.encode(plain)) == ClusterState(index=7)


# Voters


async def test_a_leader_has_no_format_adopted_that_it_does_not_know(tmp_path: Path) -> None:
    """Any member may propose it, and all would stand still for good."""
    nobody: Any = None
    log = RaftLog(
        "a", Genesis("c", "a", ("a",), {}), tmp_path, nobody, RaftSettings(), ("127.0.0.1", 1),
        lambda _: None, SystemClock(),
    )  # fmt: skip
    adopt = Proposal("adopt", "b", 1.0, (NoOperation(), AdoptFormat(NEW)))
    with pytest.raises(ProposalRejected, match=f"knows {OLD} at most"):
        await log.propose(adopt, 1.0)
    with of_format(NEW), pytest.raises(ProposalRejected, match="does not run"):
        await log.propose(adopt, 1.0)


class FormatNode(RaftNode):
    """A voter of a version of its own."""

    known: ClassVar[dict[str, int]] = {}

    def _known_part(self, snapshot: Any) -> ClusterState:
        with of_format(self.known[self.selfNode.id]):
            return super()._known_part(snapshot)

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        with of_format(self.known[self.selfNode.id]):
            return super()._SyncObj__applyLogEntries()


@pytest.fixture
def world(new_world: NewWorld, monkeypatch: pytest.MonkeyPatch) -> World:
    """Three voters; `v0` is of the earlier version, and leads."""
    monkeypatch.setattr(FormatNode, "known", {"v0": OLD, "v1": NEW, "v2": NEW})
    world = new_world(seed=7, node_class=FormatNode)
    world.found()
    if world.leader().me != "v0":
        world.transfer("v0")
    return world


def commit(world: World, *wanted: Command | Mark) -> Answered:
    answer = Answered()
    world.proposed += 1
    world.leader().node.propose(proposal(f"p{world.proposed}", *wanted), answer)
    world.run_until(lambda: bool(answer.outcome))
    return answer


def restart(world: World, known: int) -> RaftNode:
    FormatNode.known["v0"] = known
    if "v0" in world.running:
        world.crash("v0")
    return world.start("v0").node


def test_a_voter_that_stands_still_leads_no_more_and_keeps_the_log(world: World) -> None:
    old = world.running["v0"].node
    answer = Answered()
    old.propose(proposal("adopt", AdoptFormat(NEW)), answer)
    world.run_until(lambda: bool(old._halted))
    world.run_until(lambda: bool(world.leaders_now()) and world.leader().me != "v0")
    assert commit(world, Mark("late")).reason == ""
    follower = next(one for one in ("v1", "v2") if one != world.leader().me)
    world.crash(follower)
    names = [world.write() for _ in range(20)]  # a quorum of the leader and of who stands still
    assert world.running["v0"].journal[-1][1] >= world.answers[names[-1]].index
    assert old.state.format == 0 and not old.state.workloads
    world.crash(world.leader().me)
    world.start(follower)
    for _ in range(500):
        world.step()
        assert "v0" not in [one.me for one in world.leaders_now()]
    restart(world, NEW)
    world.settle()
    assert world.newest_state().stopped_by_hand == ("late",)
    world.check()


def test_a_snapshot_that_may_say_more_is_kept_as_it_is_and_used_later(world: World) -> None:
    world.transfer("v1")
    world.crash("v0")
    commit(world, AdoptFormat(NEW))
    commit(world, Mark("late"))
    for _ in range(40):
        world.write()
    old = restart(world, OLD)
    world.run_until(lambda: bool(old._halted))
    found = (world.folder / "v0" / "snapshot").read_bytes()
    assert old.state.format == NEW, "it came by a snapshot"
    names = [world.write() for _ in range(20)]
    old.take_snapshot(lambda _: None)
    again = restart(world, OLD)
    assert again._halted
    assert (world.folder / "v0" / "snapshot").read_bytes() == found
    restart(world, NEW)
    world.settle()
    assert {*names} <= {*world.newest_state().workloads}
    world.check()
