"""The mesh: keeps proxies, intentions and tokens as the declared links ask, beside the loop.

It holds nothing up: while Consul is away guests and proxies go on as they are, and what changed
meanwhile is done when it answers again. Each member looks after the proxies of its own guests; what
is true for the whole cluster is written by one, which is the leader where it uses Consul.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import structlog

from sappers.decisions.mesh import (
    assign_ports,
    keeps_intentions,
    plan_mesh,
    reconcile_intentions,
    stale_tokens,
)
from sappers.durable import write_durably
from sappers.errors import ConsulError, SappersError
from sappers.model.cluster_state import ClusterState
from sappers.model.known_types import UNREADABLE
from sappers.model.member import Member
from sappers.model.mesh import MeshPlan, MeshPorts, RemoveIntention, SetIntention
from sappers.ports import Clock, Intentions, MeshProxies

LOOK_SECONDS = 5.0
PAUSE_SECONDS = 0.3
TOKENS_SECONDS = 60.0

log = structlog.get_logger(__name__)


class _Wanted(NamedTuple):
    """What should be so, as last heard."""

    state: ClusterState
    plan: MeshPlan
    keeps: bool

    def differs(self, other: _Wanted) -> bool:
        """Whether there may be something to do."""
        return (self.plan, self.keeps) != (other.plan, other.keeps) or (
            self.keeps and self.state.workloads is not other.state.workloads
        )


class Mesh:
    """`run` keeps the mesh, `follow` says what of.

    Args:
        book: File of the ports that guests were told; it outlives the agent.
        proxies: Of this member's guests.
        intentions: None where Consul is not used: then proxies that ran before are ended.
    """

    def __init__(
        self,
        book: Path,
        clock: Clock,
        proxies: MeshProxies,
        intentions: Intentions | None,
    ) -> None:
        self._book = book
        self._clock = clock
        self._proxies = proxies
        self._intentions = intentions
        self._ports: Mapping[str, MeshPorts] | None = None
        self._wanted: _Wanted | None = None
        self._wake = asyncio.Event()
        self._tokens_looked_at = float("-inf")
        self.trouble = ""

    def follow(self, state: ClusterState, me: Member, leader_id: str | None) -> None:
        """What is so now: the state, which has caught up, and who leads."""
        before = self._wanted
        if self._intentions is None or not state.cluster_id:
            return
        keeps = keeps_intentions(state, me.id, leader_id)
        if before is not None and before.keeps == keeps and before.state is state:
            return
        self._assign(state, me)
        self._wanted = _Wanted(state, plan_mesh(state, me, self._known_ports()), keeps)
        if before is None or self._wanted.differs(before):
            self._wake.set()

    def links_of(self, allocation_id: str) -> Mapping[str, int]:
        """The ports of the host's loopback that lead to what a guest is linked to, by link."""
        found = self._known_ports().get(allocation_id) if self._intentions else None
        return found.links if found else {}

    async def run(self) -> None:
        """Until cancelled; proxies go on."""
        if self._intentions is None:
            with contextlib.suppress(SappersError):
                await self._proxies.keep(MeshPlan("", ""))
            return
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            if self._wanted is not None:
                await self._look(self._intentions, self._wanted)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _look(self, intentions: Intentions, wanted: _Wanted) -> None:
        """First who may call whom, then the proxies that ask for it; neither waits for the other
        to succeed.
        """
        troubles = []
        if wanted.keeps:
            troubles.append(await _trouble_with(self._keep_intentions(intentions, wanted.state)))
        troubles.append(await _trouble_with(self._proxies.keep(wanted.plan)))
        trouble = next(filter(None, troubles), "")
        if trouble and trouble != self.trouble:
            log.warning("the mesh is not as wanted", error=trouble)
        self.trouble = trouble

    async def _keep_intentions(self, intentions: Intentions, state: ClusterState) -> None:
        """Write what is true for the whole cluster.

        Raises:
            ConsulError: It could not be done, or somebody else's intentions are against it.
        """
        plan = reconcile_intentions(state, await intentions.intentions())
        for change in plan.changes:
            await intentions.execute(change)
            match change:
                case SetIntention(intention=one):
                    log.info("intention", source=one.source, to=one.destination, says=one.action)
                case RemoveIntention(reading=one):
                    log.info("intention gone", source=one.source, to=one.destination)
        if self._clock.monotonic() - self._tokens_looked_at >= TOKENS_SECONDS:
            for token in stale_tokens(state, await intentions.tokens()):
                await intentions.revoke(token)
                log.info("mesh token taken back", mark=token.mark)
            self._tokens_looked_at = self._clock.monotonic()
        if plan.conflicts:
            raise ConsulError(plan.conflicts[0], hint="change it, or delete it, in Consul")

    # -- ports ---------------------------------------------------------------------------------

    def _assign(self, state: ClusterState, me: Member) -> None:
        """Give each guest its ports before it starts; they are on disk before anybody is told."""
        before = self._known_ports()
        found = assign_ports(state, me, before, port_is_free)
        if found != before:
            self._ports = found
            try:
                self._book.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_durably(self._book, msgspec.json.encode(found))
            except OSError as error:
                log.warning("ports of the mesh are not on disk", error=error.strerror)

    def _known_ports(self) -> Mapping[str, MeshPorts]:
        if self._ports is None:
            try:
                text = self._book.read_bytes()
                self._ports = msgspec.json.decode(text, type=dict[str, MeshPorts])
            except (OSError, *UNREADABLE):
                self._ports = {}
        return self._ports


async def _trouble_with(work: Coroutine[Any, Any, None]) -> str:
    """Why something is not done, or empty."""
    try:
        await work
    except SappersError as error:
        return error.explained
    except Exception as error:
        log.exception("the mesh broke")
        return f"it cannot be looked after: {error!r}"
    return ""


def port_is_free(address: str, port: int) -> bool:
    """Whether nothing has it now."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
