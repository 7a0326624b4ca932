"""What a host has of its own: files, a clock, and what its agent is told and says of itself."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import msgspec

from sappers.config import AgentSettings, RaftSettings
from sappers.model.member import Accelerator, Member, Ports, Resources
from sappers.model.policy import FencingSettings, HealthSettings
from sappers.security.tls import Identity
from tests.simulation.determinism import EPOCH_SECONDS
from tests.simulation.disk import SimulatedDisk
from tests.simulation.loop import VirtualLoop

LOG_FORMAT: ContextVar[int] = ContextVar("log format", default=0)  # that what runs now knows
LEASE_SECONDS = 6.0
FORGET_SECONDS = 25.0  # after which who is gone is forgotten
HEALTH = HealthSettings(
    push_deadline_seconds=3.0, boot_deadline_seconds=6.0, restart_delay_seconds=0.5
)


class SimulatedPath:
    """As much of a `Path` on a simulated disk as the agent's own files need."""

    def __init__(self, disk: SimulatedDisk, name: str) -> None:
        self.disk = disk
        self._name = name

    def __truediv__(self, part: str) -> SimulatedPath:
        return SimulatedPath(self.disk, f"{self._name}/{part}")

    def __str__(self) -> str:
        return self._name

    @property
    def name(self) -> str:
        return self._name.rpartition("/")[2]

    @property
    def parent(self) -> SimulatedPath:
        return SimulatedPath(self.disk, self._name.rpartition("/")[0])

    def exists(self) -> bool:
        return self.disk.exists(self)

    def is_dir(self) -> bool:
        return False

    def read_bytes(self) -> bytes:
        return self.disk.read(self)

    def unlink(self, *, missing_ok: bool = False) -> None:
        assert missing_ok
        self.disk.remove(self)

    def iterdir(self) -> Iterator[SimulatedPath]:
        return (SimulatedPath(self.disk, one) for one in self.disk.names(f"{self._name}/"))


class HostClock:
    """Implements `ports.Clock`: a little fast or slow, and the wall's may jump."""

    def __init__(self, loop: VirtualLoop, chance: random.Random) -> None:
        self._loop = loop
        self._rate = 1.0 + chance.uniform(-0.002, 0.002)
        self._began = chance.uniform(100.0, 100_000.0)
        self.jump_seconds = 0.0

    def now(self) -> float:
        return EPOCH_SECONDS + self._loop.now + self.jump_seconds

    def monotonic(self) -> float:
        return self._began + self._loop.now * self._rate


def agent_settings(
    name: str, address: str, *, bootstrap: int, entries: int, fences: bool
) -> AgentSettings:
    """What an agent is told; its log is compacted after so many entries.

    Args:
        fences: Whether there is a command that cuts a host off from power.
    """
    return AgentSettings(
        cluster="simulated",
        node_name=name,
        address=address,
        bootstrap=bootstrap,
        raft=RaftSettings(compaction_min_entries=entries),
        health=HEALTH,
        fencing=FencingSettings(LEASE_SECONDS, command=("fence",) * fences),
        forget_member_hours=FORGET_SECONDS / 3600,
    )


def with_address(settings: AgentSettings, address: str) -> AgentSettings:
    """The same after a move."""
    return msgspec.structs.replace(settings, address=address)


def described(settings: AgentSettings, *, has_vote: bool, log_format: int) -> Member:
    """What an agent says of itself as it starts."""
    return Member(
        id=settings.node_name,
        name=settings.node_name,
        address=settings.address,
        ports=Ports(),
        resources=Resources(cpus=4, memory_mib=8192),
        accelerator=Accelerator("kvm", "simulated"),
        version="0",
        voter_tag=settings.voter_tag,
        has_vote=has_vote,
        zone=settings.zone,
        log_format=log_format,
    )


def identity_of(name: str) -> Identity:
    """Its certificate, which nothing here looks at."""
    here = Path(name)
    return Identity(here, here, here, name, "agent", "simulated")
