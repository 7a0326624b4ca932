"""The power fence: a command that the leader runs to cut a dead member's host off from power.

What it says is committed. Where it succeeds, exclusive guests that were lost with the host are
started elsewhere at once; where it fails, or there is none, their leases are waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping

import structlog

from sappers.agent.own_proposals import CommitInTerm
from sappers.decisions.fencing import members_to_fence
from sappers.errors import SappersError
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import NoOperation, ReportFencing
from sappers.model.member import Member, MemberState
from sappers.model.policy import FencingSettings

OUTPUT_BYTES_MAX = 4096
TEXT_LENGTH_MAX = 200

log = structlog.get_logger(__name__)


class PowerFence:
    """Runs the command once for each death of a member that holds up exclusive guests."""

    def __init__(
        self,
        cluster: str,
        settings: FencingSettings,
        commit: CommitInTerm,
        state_now: Callable[[], ClusterState],
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._commit = commit
        self._state_now = state_now
        self._deaths: dict[str, float] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    def attend(self, state: ClusterState, ended: frozenset[str], term: int) -> None:
        """Begin for whoever needs it; for the leader alone."""
        if not self._settings.command:
            return
        for member in members_to_fence(state, ended):
            if self._deaths.get(member.id) == member.state_since:
                continue
            self._deaths[member.id] = member.state_since
            task = asyncio.create_task(self._fence(member, term), name=f"fence {member.id}")
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """End the commands that run."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _fence(self, member: Member, term: int) -> None:
        if not await self._still_leads(member, term):
            return
        log.warning("cutting a host off from power", host=member.name)
        done, text = await run_fence(
            self._settings.command, self._facts(member, term), self._settings.command_seconds
        )
        log.warning("power fence", host=member.name, done=done, said=text)
        try:
            report = ReportFencing(member.id, done, text, dead_since=member.state_since)
            await self._commit((report,), term)
        except SappersError as error:
            log.warning("power fence not committed", host=member.name, reason=error.message)

    async def _still_leads(self, member: Member, term: int) -> bool:
        """Whether this leader, which may have stood still for a while, is asked to do it now."""
        try:
            await self._commit((NoOperation(),), term)
        except SappersError as error:
            log.warning("no power fence", host=member.name, reason=error.message)
            self._deaths.pop(member.id, None)
            return False
        now = self._state_now().members.get(member.id)
        return (
            now is not None
            and now.state is MemberState.DEAD
            and now.state_since == member.state_since
        )

    def _facts(self, member: Member, term: int) -> Mapping[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "SAPPERS_CLUSTER": self._cluster,
            "SAPPERS_MEMBER_ID": member.id,
            "SAPPERS_MEMBER_NAME": member.name,
            "SAPPERS_MEMBER_ADDRESS": member.address,
            "SAPPERS_MEMBER_ZONE": member.zone,
            "SAPPERS_TERM": str(term),
        }


async def run_fence(
    command: tuple[str, ...], environment: Mapping[str, str], timeout_seconds: float
) -> tuple[bool, str]:
    """Run a command within the time; whether it exited with 0, and what it said last."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return False, f"{command[0]}: {error.strerror}"
    try:
        async with asyncio.timeout(timeout_seconds):
            said = await _last_words(process)
            code = await process.wait()
    except TimeoutError:
        return False, f"it did not end within {timeout_seconds:g} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return code == 0, said or f"exit code {code}"


async def _last_words(process: asyncio.subprocess.Process) -> str:
    """The last line of what a process prints until it ends, fit for a terminal."""
    assert process.stdout is not None
    kept = b""
    while more := await process.stdout.read(OUTPUT_BYTES_MAX):
        kept = (kept + more)[-OUTPUT_BYTES_MAX:]
    lines = kept.decode(errors="replace").strip().splitlines()
    last = lines[-1].strip() if lines else ""
    return "".join(char for char in last if char.isprintable())[:TEXT_LENGTH_MAX]
