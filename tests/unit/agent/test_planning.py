"""When a leader plans: never on a state that may not show all of the log."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from sappers.agent.clock import SystemClock
from sappers.agent.leading import planning
from sappers.agent.leading.planning import ClusterPlanner
from sappers.agent.own_proposals import OwnProposals
from sappers.decisions.suspicion import SURE_SECONDS
from sappers.errors import OutcomeUnknown, ProposalRejected, SappersError
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Proposal, PutWorkload
from sappers.model.observation import MemberObservation, RaftRole, RaftStatus
from sappers.model.policy import FencingSettings
from sappers.model.view import Genesis
from sappers.ports import Applied, Clock
from tests.unit.clocks import SteppingClock
from tests.unit.repair_worlds import died, healing_cluster
from tests.unit.worlds import commit, founded, workload


class Log:
    """A leader's, of which the test says how far it is and what becomes of a proposal."""

    def __init__(self, state: ClusterState) -> None:
        self.current = state
        self.term = state.term
        self.commit_index = state.index
        self.fails_with: SappersError | None = None
        self.barrier_fails_with: SappersError | None = None
        self.done: list[str] = []

    def state(self) -> ClusterState:
        return self.current

    def status(self) -> RaftStatus:
        index = self.current.index
        return RaftStatus(RaftRole.LEADER, self.term, "m1", self.commit_index, index)

    async def propose(self, proposal: Proposal, timeout_seconds: float) -> Applied:
        self.done.append("plan")
        if self.fails_with:
            raise self.fails_with
        self.current, outcome = commit(self.current, *proposal.commands, term=self.term)
        return Applied(self.current.index, self.term, outcome.refused)

    async def read_barrier(self, timeout_seconds: float) -> int:
        self.done.append("barrier")
        if self.barrier_fails_with:
            raise self.barrier_fails_with
        return self.current.index


class Led:
    """An agent that leads, in a cluster that lacks a guest."""

    def __init__(self, state: ClusterState | None = None, clock: Clock | None = None) -> None:
        if state is None:
            state, _ = commit(founded(3), PutWorkload(workload(exclusive=True)))
        self.log = Log(state)
        clock = clock or SystemClock()
        proposals = OwnProposals("m1", lambda: self.log, clock)
        self.planner = ClusterPlanner(
            lambda: self.log, proposals, clock, Path("none"), FencingSettings()
        )

    async def lead(self, leading_seconds: float = 0.0) -> bool:
        gossip = tuple(one for _, one in sorted(self.log.current.members.items()))
        observed = MemberObservation(gossip=gossip, leading_seconds=leading_seconds)
        return await self.planner.propose(observed)


async def test_a_new_leader_plans_once_the_first_entry_of_its_term_is_applied() -> None:
    led = Led()
    led.log.term = 2
    assert not await led.lead()
    assert led.log.done == []
    led.log.current = msgspec.structs.replace(led.log.current, term=2)
    assert await led.lead()
    assert led.log.done == ["plan"]


async def test_a_leader_waits_until_what_is_committed_is_applied() -> None:
    led = Led()
    led.log.commit_index += 1
    assert not await led.lead()
    assert led.log.done == []
    led.log.current, _ = commit(led.log.current)
    assert await led.lead()
    assert led.log.done == ["plan"]


async def test_after_a_plan_of_unknown_outcome_it_reads_through_the_log_first() -> None:
    led = Led()
    led.log.fails_with = OutcomeUnknown("no answer within 2 s")
    led.log.barrier_fails_with = OutcomeUnknown("no answer within 2 s")
    assert await led.lead()
    assert not await led.lead()
    assert led.log.done == ["plan", "barrier"]
    led.log.fails_with = led.log.barrier_fails_with = None
    assert await led.lead()
    assert led.log.done == ["plan", "barrier", "barrier", "plan"]
    await led.lead()
    assert led.log.done.count("barrier") == 2


async def test_a_plan_that_is_surely_not_in_the_log_needs_no_read() -> None:
    led = Led()
    led.log.fails_with = ProposalRejected("this member does not lead")
    await led.lead()
    await led.lead()
    assert led.log.done == ["plan", "plan"]


async def test_a_step_of_the_leaders_clock_hastens_no_repair() -> None:
    clock = SteppingClock()
    led = Led(died(healing_cluster(), "m2", clock.now()), clock)
    await led.lead(1000.0)
    clock.step(3600.0)
    await led.lead(1000.0)
    assert not led.log.current.repairs
    clock.advance(SURE_SECONDS)
    await led.lead(1000.0 + SURE_SECONDS)
    assert [one.member_id for one in led.log.current.repairs.values()] == ["m2"]


async def test_a_leader_that_cannot_read_its_genesis_just_now_founds_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    led = Led(ClusterState(index=2, term=1))
    genesis = Genesis("c1", "m1", ("m1", "m2", "m3"), {})
    readings = iter([OSError(errno.EMFILE, os.strerror(errno.EMFILE)), genesis])

    def load(_: Path) -> Genesis:
        reading = next(readings)
        if isinstance(reading, Genesis):
            return reading
        raise reading

    monkeypatch.setattr(planning, "load_genesis", load)
    assert not await led.lead()
    assert await led.lead()
    assert led.log.current.cluster_id == "c1"
