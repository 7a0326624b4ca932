"""Guests simulated: they boot, push their health, fail, and outlive the agent that started them."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from sappers.errors import LaunchError
from sappers.model import subjects
from sappers.model.allocation import Allocation
from sappers.model.image import Manifest
from sappers.model.observation import GuestProcess
from tests.simulation.disk import SimulatedDisk
from tests.simulation.hub import Hub
from tests.simulation.loop import OUTSIDE, VirtualLoop

PUSH_SECONDS = 1.0
LOOK_SECONDS = 0.25  # of a watchdog


class Guest:
    """One running guest of a host."""

    def __init__(
        self, host: Guests, allocation: Allocation, servers: tuple[str, ...], lease_until: float
    ) -> None:
        self.allocation = allocation
        self.started_at = host.monotonic()
        self.is_running = True
        self.is_silent = False
        self.lease_until = lease_until
        self._host = host
        self._servers = servers
        self._boot_id = f"{host.chance.getrandbits(64):016x}"
        self._sequence = 0
        boots_seconds = 0.2 + host.chance.random() * 0.6
        host.loop.call_later(boots_seconds, self._push, context=OUTSIDE)
        if allocation.is_exclusive:
            host.loop.call_later(LOOK_SECONDS, self._watch, context=OUTSIDE)

    def _watch(self) -> None:
        """The watchdog beside an exclusive guest."""
        if not self.is_running:
            return
        self._host.loop.call_later(LOOK_SECONDS, self._watch)
        if not self._host.is_frozen() and self._host.monotonic() >= self.lease_until:
            self.is_running = False

    def _push(self) -> None:
        if not self.is_running:
            return
        self._host.loop.call_later(PUSH_SECONDS, self._push)
        if self.is_silent or self._host.is_frozen():
            return
        self._sequence += 1
        word = {"healthy": True, "boot_id": self._boot_id, "sequence": self._sequence}
        self._host.hub.publish(
            self._host.name,
            self._servers,
            subjects.guest_health(self.allocation.id),
            msgspec.json.encode(word),
        )


class Guests:
    """All guests of a host; a host that loses its power loses them.

    Args:
        is_frozen: Whether the whole host stands still.
        launched: Told of each guest that starts.
        begin_to_heal: Runs what is in a healer.
    """

    def __init__(
        self,
        name: str,
        loop: VirtualLoop,
        hub: Hub,
        chance: random.Random,
        monotonic: Callable[[], float],
        is_frozen: Callable[[], bool],
        launched: Callable[[str, Allocation], None],
        begin_to_heal: Callable[[Guest, tuple[str, ...]], Any],
    ) -> None:
        self.name = name
        self.loop = loop
        self.hub = hub
        self.chance = chance
        self.monotonic = monotonic
        self.is_frozen = is_frozen
        self.running: dict[str, Guest] = {}
        self.launch_fails = 0.0
        self._launched = launched
        self._begin_to_heal = begin_to_heal

    def lose_power(self) -> None:
        for guest in self.running.values():
            guest.is_running = False
        self.running.clear()

    def start(self, allocation: Allocation, servers: tuple[str, ...], lease_until: float) -> None:
        if allocation.id in self.running:
            raise LaunchError(f"{allocation.id} runs already")
        if allocation.is_exclusive and lease_until <= self.monotonic():
            raise LaunchError(f"{allocation.id} has no lease")
        if self.launch_fails and self.chance.random() < self.launch_fails:
            raise LaunchError("QEMU ends at once")
        guest = self.running[allocation.id] = Guest(self, allocation, servers, lease_until)
        self._launched(self.name, allocation)
        if allocation.repair:
            self._begin_to_heal(guest, servers)


class SimulatedLauncher:
    """Implements `ports.Launcher` for one agent's life."""

    def __init__(
        self,
        guests: Guests,
        hub_servers: Callable[[], tuple[Any, ...]],
        lease_of: Callable[[str], float],
        disk: SimulatedDisk,
    ) -> None:
        self._guests = guests
        self._disk = disk
        self._lease_of = lease_of
        self._hub_servers = hub_servers

    async def launch(self, allocation: Allocation, manifest: Manifest) -> None:
        await asyncio.sleep(0.05 + self._guests.chance.random() * 0.2)
        servers = tuple(server.id for server in self._hub_servers())
        self._guests.start(allocation, servers, self._lease_of(allocation.id))

    async def leases(self) -> Mapping[str, float]:
        return {
            name: guest.lease_until
            for name, guest in sorted(self._guests.running.items())
            if guest.allocation.is_exclusive
        }

    async def extend_leases(self, until: Mapping[str, float]) -> None:
        for name, moment in until.items():
            if (guest := self._guests.running.get(name)) is not None:
                if self._disk.is_full:  # a watchdog goes by a file
                    raise OSError(errno.ENOSPC, "No space left on device")
                guest.lease_until = moment

    async def warm(self, manifest: Manifest, digest: str) -> str:
        return "nothing to do"

    async def stop(self, allocation_id: str, grace_seconds: float) -> None:
        await asyncio.sleep(min(grace_seconds, 0.1))
        guest = self._guests.running.pop(allocation_id, None)
        if guest is not None:
            guest.is_running = False

    async def observe(self) -> Mapping[str, GuestProcess]:
        return {
            allocation_id: GuestProcess(
                allocation_id,
                guest.is_running,
                "" if guest.is_running else "guest panicked",
                guest.started_at,
            )
            for allocation_id, guest in sorted(self._guests.running.items())
        }

    async def serial_log(self, allocation_id: str, tail_bytes: int) -> str:
        return ""

    async def close(self) -> None:
        pass
