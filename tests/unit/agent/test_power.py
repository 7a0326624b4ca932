from __future__ import annotations

import asyncio
import sys
import time

import msgspec

from sappers.agent.power import PowerFence, run_fence
from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Command, ReportAllocation, ReportFencing, SetMemberState
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


async def test_it_runs_once_for_each_death_and_commits_what_came_of_it() -> None:
    proposed: list[tuple[Command, int]] = []

    async def propose(commands: tuple[Command, ...], term: int) -> None:
        proposed.extend((command, term) for command in commands)

    settings = FencingSettings(command=("/bin/sh", "-c", "echo $SAPPERS_MEMBER_NAME is off"))
    fence = PowerFence("test", settings, propose)
    state, member_id = lost()

    async def settle() -> None:
        await asyncio.gather(*fence._under_way)
        await asyncio.sleep(0)

    for _ in range(3):
        fence.attend(state, frozenset(), 7)
    await settle()
    report = ReportFencing(member_id, done=True, text="host1 is off", dead_since=5.0)
    assert proposed == [(report, 7)]
    member = msgspec.structs.replace(state.members[member_id], state_since=99.0)
    again = msgspec.structs.replace(state, members=state.members.set(member_id, member))
    fence.attend(again, frozenset(), 8)
    await settle()
    assert len(proposed) == 2
    fence.attend(again, frozenset(state.allocations), 8)  # nothing waits any more
    assert not fence._under_way
