"""Rolling upgrades under faults: hosts of two versions, and one that comes back as it was."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from sappers.agent import proposing
from sappers.consensus import halting, raft_log, state_machine
from sappers.model import codec, commands
from sappers.model.commands import Proposal
from tests.simulation import peers, watch
from tests.simulation.determinism import deterministic
from tests.simulation.hosts import Host
from tests.simulation.loop import VirtualLoop
from tests.simulation.machine import LOG_FORMAT
from tests.simulation.run import QUORUM, World
from tests.unit.two_formats import NEW, OLD, Mark, decode_any, known_formats

SEEDS = range(16)


class UpgradedWorld(World):
    """All hosts are of the earlier version at first, and of the later one at the end."""

    newcomers = OLD
    has_halted = False

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        super().__init__(seed, loop)
        self.faults.kinds = [kind for kind in self.faults.kinds if kind != QUORUM]
        self.faults.loses_quorum = False
        self._marker = self._client("marker")
        self.clients.append(self._marker)
        loop.create_task(self._upgrade(random.Random(f"upgrade/{seed}")))
        loop.create_task(self._leave_marks())

    def _add_host(self, number: int, bootstrap: int = 0) -> Host:
        host = super()._add_host(number, bootstrap)
        host.log_format = self.newcomers
        return host

    async def _upgrade(self, chance: random.Random) -> None:
        await asyncio.sleep(chance.uniform(2.0, 5.0))
        for host in chance.sample(self.hosts, len(self.hosts)):
            await asyncio.sleep(chance.uniform(0.1, 1.0))
            self._install(host, NEW)
        for _ in range(40):
            if self.watch.newest().format == NEW:
                break
            await asyncio.sleep(0.25)
        back = chance.choice(self.hosts)
        self._install(back, OLD)
        await asyncio.sleep(chance.uniform(1.0, 4.0))
        if back.agent is not None and back.agent.has_log:
            self.has_halted = bool(back.agent.log.status().halted)
        self.newcomers = NEW
        for host in self.hosts:
            self._install(host, NEW)

    def _install(self, host: Host, version: int) -> None:
        if host.log_format != version:
            self.watch.note(f"{host.name} is of version {version} from now on")
            host.log_format = version
            host.kill_agent()

    async def _leave_marks(self) -> None:
        number = 0
        while not (self.watch.states and "last" in self.watch.newest().stopped_by_hand):
            number += 1
            is_last = self.loop.time() > 20.0
            mark: Any = Mark("last" if is_last else f"mark{number}")
            await self._marker.submit(mark)
            await asyncio.sleep(0.2)


@contextmanager
def two_versions(seed: int) -> Iterator[UpgradedWorld]:
    loop = VirtualLoop()

    def decode(payload: bytes) -> Proposal:
        return decode_any(payload)

    with (
        deterministic(loop, seed, None),
        known_formats(LOG_FORMAT.get),
        patch.object(watch, "decode_proposal", decode),
        patch.object(peers, "decode_proposal", decode),
    ):
        yield UpgradedWorld(seed, loop)
        loop.close()


def run(seed: int) -> tuple[UpgradedWorld, list[str]]:
    with two_versions(seed) as world:
        world.run()
        return world, list(world.watch.violations)


def test_all_have_one_state_and_the_command_works_in_the_end() -> None:
    halted = 0
    for seed in SEEDS:
        world, violations = run(seed)
        assert not violations, seed
        state = world.watch.newest()
        assert state.format == NEW, seed
        assert any(one.startswith(("mark", "last")) for one in state.stopped_by_hand), seed
        halted += world.has_halted
    assert halted, "in no seed did the one that came back stand still"


def test_were_nobody_to_stand_still_states_would_differ() -> None:
    with ExitStack() as off:
        for module in (state_machine, halting, codec):
            off.enter_context(patch.object(module, "check_known", lambda _: None))
        assert any("has another state" in one for seed in SEEDS for one in run(seed)[1])


def test_were_commands_not_refused_states_would_differ() -> None:
    with ExitStack() as off:
        for module in (state_machine, proposing, raft_log, commands):
            off.enter_context(patch.object(module, "format_needed", lambda _: 0))
        assert any("has another state" in one for seed in SEEDS for one in run(seed)[1])
