"""What operators do by `sappers-deploy raft`: the CLI's steps, by the API's own handlers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from sappers.agent.agent import Agent
from sappers.api import raft as raft_calls
from sappers.api.call import Call
from sappers.api.raft_wire import RaftReport, WantedLeader, WantedRecovery
from sappers.cli.raft_view import given_up, heirs_of, newest_voter, summary_of
from sappers.errors import ConfigError, SappersError
from sappers.model.commands import RevokeMember
from sappers.model.observation import RaftRole
from sappers.security.tls import PeerIdentity
from tests.simulation.clients import Client, ask
from tests.simulation.hosts import Host
from tests.simulation.loop import VirtualLoop
from tests.simulation.watch import Watch

CALL_SECONDS = 12.0
RECOVERY_SECONDS = 60.0
AGAIN_SECONDS = 0.5
_WHO = PeerIdentity("operator", "operator", "simulated")

_Handler = Callable[[Call], Awaitable[Any]]


class RaftOperator:
    """Carries out one procedure until it is done, however often it has to ask."""

    def __init__(
        self, loop: VirtualLoop, hosts: list[Host], watch: Watch, operator: Client
    ) -> None:
        self._loop = loop
        self._hosts = hosts
        self._watch = watch
        self._operator = operator

    async def reports(self) -> dict[str, RaftReport]:
        """What each member that answers says of its log, by id."""
        found = {}
        for host in self._hosts:
            try:
                found[host.name] = await self._call(host, raft_calls.report, seconds=1.0)
            except SappersError:
                continue
        return found

    async def reseed(self, host: Host, deadline: float = math.inf) -> None:
        """As `raft reseed`: until it votes again, with what its peers gave it."""

        async def is_ready() -> bool:
            reports = await self.reports()
            mine, voters = reports.get(host.name), await self._voters()
            if mine is None or voters is None or mine.trouble:
                return False
            return host.name in voters or not mine.votes_here

        async def gives_vote() -> bool:
            voters = await self._voters()
            return voters is not None and (
                host.name in voters
                or await self._at_leader(raft_calls.put_voter, id=host.name) is not None
            )

        for step in (lambda: self.take_vote(host.name), is_ready, gives_vote):
            while not await step():
                if self._loop.time() >= deadline:
                    return
                await asyncio.sleep(AGAIN_SECONDS)

    async def take_vote(self, member_id: str) -> bool:
        """Whether it has none now; a leader hands over first."""
        voters = await self._voters()
        if voters is None or member_id not in voters:
            return voters is not None
        reports = list((await self.reports()).values())
        if summary_of(reports).leader_id == member_id:
            heirs = heirs_of(member_id, reports, self._watch.newest().cordons.keys())
            wanted = WantedLeader(heirs[0]) if heirs else None
            if wanted is None or not await self._at_leader(raft_calls.put_leader, wanted):
                return False
        return await self._at_leader(raft_calls.delete_voter, id=member_id) is not None

    async def revoke(self, host: Host, *, with_vote: bool) -> None:
        """As `raft revoke`; `with_vote`: by the API alone, which takes no vote first."""
        while True:
            if with_vote or await self.take_vote(host.name):
                break
            await asyncio.sleep(AGAIN_SECONDS)
        while await self._operator.submit(RevokeMember(host.name)) is None:
            pass
        self._watch.note(f"operator: {host.name} is revoked")

    async def recover(self) -> bool:
        """As `raft recover`; False where there is nothing to recover, or nobody to go on with."""
        reports = list((await self.reports()).values())
        try:
            if summary_of(reports).has_quorum:
                return False
            chosen = newest_voter(reports, None)
        except ConfigError:
            return False
        host = next((one for one in self._hosts if one.name == chosen.member_id), None)
        if host is None:  # it burnt since it was asked
            return False
        self._watch.note(f"operator: {chosen.name} is to go on alone; {given_up(chosen, reports)}")
        self._watch.may_recover(chosen)
        wanted = WantedRecovery(chosen.member_id, chosen.cluster_id)
        try:
            await self._call(host, raft_calls.recover, wanted, seconds=RECOVERY_SECONDS)
        except SappersError as error:
            self._watch.note(f"operator: {host.name} does not go on alone: {error}")
            return False
        return True

    # -- calls --------------------------------------------------------------------------------

    async def _voters(self) -> tuple[str, ...] | None:
        """By the leader's word."""
        for report in (await self.reports()).values():
            if report.status.role is RaftRole.LEADER:
                return report.status.electorate
        return None

    async def _at_leader(self, handler: _Handler, body: Any = None, **path: str) -> Any:
        """The leader's answer; None where it does not give one, or a refusal."""
        for name, report in (await self.reports()).items():
            if report.status.role is RaftRole.LEADER:
                host = next((one for one in self._hosts if one.name == name), None)
                if host is None:
                    return None
                try:
                    return await self._call(host, handler, body, **path)
                except SappersError as error:
                    self._watch.note(f"operator: {name} refuses: {error}")
        return None

    async def _call(
        self,
        host: Host,
        handler: _Handler,
        body: Any = None,
        seconds: float = CALL_SECONDS,
        **path: str,
    ) -> Any:
        def serve(agent: Agent) -> Awaitable[Any]:
            call = Call(
                service=agent.service,
                peer=_WHO,
                path=SimpleNamespace(**path),
                query=None,
                body=body,
                request_id="",
                now=self._loop.time(),
            )
            return handler(call)

        return await ask(self._loop, host, serve, seconds)
