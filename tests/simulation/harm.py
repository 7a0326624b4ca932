"""What every fault has at hand: the hosts, the network, dice, and an operator."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from sappers.model.observation import RaftRole
from tests.simulation.clients import Client
from tests.simulation.hosts import Host
from tests.simulation.loop import VirtualLoop
from tests.simulation.network import Network
from tests.simulation.operators import RaftOperator
from tests.simulation.watch import Watch


class Harm:
    """Whom it befalls is up to the seed."""

    def __init__(
        self,
        loop: VirtualLoop,
        network: Network,
        hosts: list[Host],
        watch: Watch,
        chance: random.Random,
        operator: Client,
        new_host: Callable[[], Host | None],
    ) -> None:
        self._loop = loop
        self._network = network
        self._hosts = hosts
        self._watch = watch
        self._chance = chance
        self._operator = operator
        self._new_host = new_host
        self._moves = 0
        self._drained: Host | None = None
        self._under_way: list[asyncio.Task[None]] = []
        self._a_second = chance.choice((0.7, 1.5, 4.0))
        self.raft = RaftOperator(loop, hosts, watch, operator)
        self.kinds: list[str] = []

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do it beside whatever else is done; that it fails is an error of the simulation."""

        def look(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self._loop.failures.append(f"{task.get_coro()}: {error!r}")

        task = self._loop.create_task(work)
        task.add_done_callback(look)
        return task

    def _note(self, what: str) -> None:
        self._watch.note(f"FAULT {what}")

    def _some(self) -> Host:
        return self._chance.choice(self._hosts)

    def _leader(self) -> Host:
        leading = [
            host
            for host in self._hosts
            if host.agent is not None
            and host.agent.has_log
            and host.agent.log.status().role is RaftRole.LEADER
        ]
        return self._chance.choice(leading) if leading else self._some()

    def _victim(self) -> Host:
        return self._leader() if self._chance.random() < 0.5 else self._some()

    async def _for_a_while(self, shortest: float, longest: float) -> None:
        await asyncio.sleep(self._chance.uniform(shortest, longest))

    async def _cut(
        self,
        links: Sequence[tuple[str, str]],
        what: str,
        shortest: float = 0.3,
        longest: float = 4.0,
    ) -> None:
        self._note(what)
        self._network.cut.update(links)
        await self._for_a_while(shortest, longest)
        self._network.cut.difference_update(links)
