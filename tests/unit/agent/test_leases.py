"""Leases as an agent keeps them: on a clock that the test moves, with a log that it commits to."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
from collections.abc import Mapping

import pytest

from sappers.agent.voting.barrier import SharedBarrier
from sappers.agent.voting.leases import RETRY_SECONDS, Leases, log
from sappers.decisions.fencing import certain_after_seconds
from sappers.errors import ProposalRejected
from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import ReportAllocation
from sappers.model.member import Member
from sappers.model.observation import RaftRole, RaftStatus
from sappers.ports import QuorumHeard
from tests.unit.exclusive_worlds import LEASE, exclusive
from tests.unit.worlds import commit
from tests.waiting import eventually


class Log:
    def __init__(self, state: ClusterState) -> None:
        self.current = state
        self.barriers = 0
        self.failure: Exception | None = None
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    def state(self) -> ClusterState:
        return self.current

    def status(self) -> RaftStatus:
        return RaftStatus(RaftRole.LEADER, 1, "m1", 1, 1)

    async def read_barrier(self, timeout_seconds: float) -> QuorumHeard:
        self.barriers += 1
        self.asked.set()
        await self.gate.wait()
        if self.failure:
            raise self.failure
        return QuorumHeard(self.current.index, self.current.term)


class Launcher:
    def __init__(self) -> None:
        self.files: dict[str, float] = {}
        self.disk_is_full = False

    async def leases(self) -> Mapping[str, float]:
        self._refuse_if_full()
        return dict(self.files)

    async def extend_leases(self, until: Mapping[str, float]) -> None:
        self._refuse_if_full()
        self.files.update(until)

    def _refuse_if_full(self) -> None:
        if self.disk_is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class World:
    """The agent's service and clock in one."""

    def __init__(self, state: ClusterState, member_id: str) -> None:
        self.log = Log(state)
        self.me = state.members[member_id]
        self.now = 1000.0
        self.failure: Exception | None = None
        self.ahead = 0
        self.launcher = Launcher()
        self.files = self.launcher.files
        self.asking_takes = 0.0
        self.leases = Leases(self, None, self.launcher, lambda: self.now)

    def leader(self) -> Member | None:
        return self.me

    async def hear_quorum(self) -> QuorumHeard:
        self.now += self.asking_takes
        if self.failure:
            raise self.failure
        return QuorumHeard(self.log.state().index + self.ahead)

    async def renew(self) -> float:
        return await self.leases._renew()


@pytest.fixture
async def world() -> World:
    state, allocation = exclusive()
    made = World(state, allocation.member_id)
    made.id = allocation.id
    return made


async def test_a_lease_counts_from_before_the_quorum_was_asked(world: World) -> None:
    world.asking_takes = 2.0
    pause = await world.renew()
    assert world.leases.until(world.id) == 1000.0 + LEASE
    assert world.leases.seconds_left() == {world.id: LEASE - 2.0}
    assert world.files == {world.id: 1000.0 + LEASE}
    assert pause <= LEASE / 5


async def test_without_an_answer_nothing_is_renewed(world: World) -> None:
    await world.renew()
    world.failure = ProposalRejected("not the leader")
    world.now += LEASE - 1
    await world.renew()
    assert world.leases.seconds_left() == {world.id: 1.0}
    world.now += 1
    assert world.leases.seconds_left() == {}


async def test_leases_are_renewed_again_once_the_disk_has_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sappers.agent.voting.leases.RETRY_SECONDS", 0.0)
    world.launcher.disk_is_full = True
    renewing = asyncio.create_task(world.leases.run())
    await asyncio.wait([renewing], timeout=0.1)
    assert world.leases.seconds_left() == {}, "its watchdog does not know of a longer one"
    world.launcher.disk_is_full = False
    await eventually(lambda: world.files == {world.id: 1000.0 + LEASE}, 5)
    assert world.leases.seconds_left() == {world.id: LEASE}
    renewing.cancel()


async def test_what_a_leader_answers_that_is_no_answer_renews_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Peers:
        async def call(self, member, method, path, *, body=None, timeout_seconds) -> bytes:
            return b"[]"

    monkeypatch.setattr(world.leases, "_peers", Peers())
    following = RaftStatus(RaftRole.FOLLOWER, 1, world.me.id, 1, 1)
    monkeypatch.setattr(world.log, "status", lambda: following)
    assert await world.renew() == RETRY_SECONDS
    assert world.leases.seconds_left() == {}


async def test_why_nothing_is_renewed_is_logged_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(log, "warning", lambda _, reason, **__: logged.append(reason))
    for reason in ("no leader", "no leader", "not the leader", "", "not the leader"):
        world.failure = ProposalRejected(reason) if reason else None
        await world.renew()
    assert logged == ["no leader", "not the leader", "not the leader"]


async def test_a_state_behind_the_answer_grants_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sappers.agent.voting.leases.ANSWER_SECONDS", 0.2)
    world.ahead = 1
    await world.renew()
    assert world.leases.seconds_left() == {}


async def test_what_is_lost_is_not_renewed(world: World) -> None:
    await world.renew()
    report = ReportAllocation(world.id, AllocationStatus.LOST, "its member is dead")
    world.log.current, _ = commit(world.log.current, report)
    await world.renew()
    assert world.leases.seconds_left() == {}


async def test_a_bad_end_is_sure_after_the_wait_by_the_clock_that_saw_it(world: World) -> None:
    report = ReportAllocation(world.id, AllocationStatus.LOST, "its member is dead")
    state, _ = commit(world.log.current, report, time=-1e9)  # wall clocks have no part in it
    assert world.leases.surely_ended(state) == frozenset()
    world.now += certain_after_seconds(LEASE) - 0.1
    assert world.leases.surely_ended(state) == frozenset()
    world.now += 0.2
    assert world.leases.surely_ended(state) == {world.id}


async def test_a_barrier_is_shared_but_only_by_who_called_before_it_began() -> None:
    log = Log(exclusive()[0])
    log.gate.clear()
    barrier = SharedBarrier(lambda: log)
    first = asyncio.create_task(barrier.pass_())
    await log.asked.wait()
    late = [asyncio.create_task(barrier.pass_()) for _ in range(5)]
    await asyncio.sleep(0)
    log.gate.set()
    await asyncio.gather(first, *late)
    assert log.barriers == 2


async def test_a_barrier_that_fails_once_nobody_waits_is_no_fault_of_the_agent() -> None:
    replicated, faults = Log(exclusive()[0]), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    replicated.gate.clear()
    barrier = SharedBarrier(lambda: replicated)
    asking = asyncio.create_task(barrier.pass_())
    await replicated.asked.wait()
    asking.cancel()
    await asyncio.wait([asking])
    replicated.failure = ProposalRejected("no leader is known")
    replicated.gate.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    assert faults == []
