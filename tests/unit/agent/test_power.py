from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import msgspec

from sappers.agent.leading.power import PowerFence, run_fence
from sappers.errors import CommandRefused
from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import (
    Command,
    NoOperation,
    ReportAllocation,
    ReportFencing,
    SetMemberState,
)
from sappers.model.member import MemberState
from sappers.model.policy import FencingSettings
from tests.unit.exclusive_worlds import exclusive
from tests.unit.worlds import commit


def lost() -> tuple[ClusterState, str]:
    """A dead member and an exclusive guest that was lost with it."""
    state, allocation = exclusive()
    state, _ = commit(state, SetMemberState(allocation.member_id, MemberState.DEAD, ""), time=5.0)
    state, _ = commit(state, ReportAllocation(allocation.id, AllocationStatus.LOST, ""), time=6.0)
    return state, allocation.member_id


async def test_the_command_is_told_who_and_its_last_words_are_kept() -> None:
    script = "print('one'); import os; print(os.environ['SAPPERS_MEMBER_NAME'], 'is \\x1b off')"
    done, text = await run_fence(
        (sys.executable, "-c", script), {"SAPPERS_MEMBER_NAME": "host1"}, 30.0
    )
    assert (done, text) == (True, "host1 is  off")


async def test_what_fails_hangs_or_does_not_exist_is_no_fence() -> None:
    assert await run_fence(("/bin/sh", "-c", "exit 3"), {}, 30.0) == (False, "exit code 3")
    assert (await run_fence(("/no/such",), {}, 30.0))[0] is False
    began = time.monotonic()
    done, text = await run_fence(("/bin/sh", "-c", "sleep 1000 & wait"), {}, 0.2)
    assert (done, text) == (False, "it did not end within 0.2 s")
    assert time.monotonic() - began < 100


SETTINGS = FencingSettings(command=("/bin/sh", "-c", "echo $SAPPERS_MEMBER_NAME is off"))


class Leader:
    """Commits what a power fence wants, and shows it a state."""

    def __init__(self, state: ClusterState) -> None:
        self.state = state
        self.reports: list[tuple[Command, int]] = []
        self.refuses = False
        self.on_commit: Callable[[], None] = lambda: None
        self.fence = PowerFence("test", SETTINGS, self._commit, lambda: self.state)

    async def _commit(self, commands: tuple[Command, ...], term: int) -> None:
        if self.refuses:
            raise CommandRefused("decided in term 7, committed in term 8")
        self.on_commit()
        self.reports += [(one, term) for one in commands if one != NoOperation()]

    async def attend(self, term: int, ended: frozenset[str] = frozenset()) -> None:
        self.fence.attend(self.state, ended, term)
        await asyncio.gather(*self.fence._under_way)
        await asyncio.sleep(0)

    def change(self, member_id: str, **changes: object) -> None:
        member = msgspec.structs.replace(self.state.members[member_id], **changes)
        members = self.state.members.set(member_id, member)
        self.state = msgspec.structs.replace(self.state, members=members)


async def test_it_runs_once_for_each_death_and_commits_what_came_of_it() -> None:
    state, member_id = lost()
    leader = Leader(state)
    for _ in range(3):
        await leader.attend(7)
    report = ReportFencing(member_id, done=True, text="host1 is off", dead_since=5.0)
    assert leader.reports == [(report, 7)]
    leader.change(member_id, state_since=99.0)
    await leader.attend(8)
    assert len(leader.reports) == 2
    await leader.attend(8, ended=frozenset(state.allocations))  # nothing waits any more
    assert len(leader.reports) == 2


async def test_who_leads_no_more_cuts_nobody_off_and_may_do_so_when_it_leads_again() -> None:
    state, _ = lost()
    leader = Leader(state)
    leader.refuses = True
    await leader.attend(7)
    assert not leader.reports
    leader.refuses = False
    await leader.attend(9)
    assert [term for _, term in leader.reports] == [9]


async def test_whoever_has_come_back_meanwhile_is_not_cut_off() -> None:
    state, member_id = lost()
    leader = Leader(state)
    leader.on_commit = lambda: leader.change(member_id, state=MemberState.ALIVE)
    await leader.attend(7)
    assert not leader.reports
