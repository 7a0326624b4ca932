"""Guests and the processes that they are."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Protocol

import msgspec

from sappers.model.allocation import Allocation
from sappers.model.image import Manifest
from sappers.model.observation import GuestProcess


class Launcher(Protocol):
    """Starts and stops guests on one backend (`launchers/`)."""

    async def launch(self, allocation: Allocation, manifest: Manifest) -> None:
        """Start the guest in a unit of its own and hand its sidecar what it must know.

        Raises:
            LaunchError: It does not start; carries the end of its log.
        """

    async def warm(self, manifest: Manifest, digest: str) -> str:
        """Have what lets further guests of an image start quickly; what happened, for a person.

        Raises:
            TemplateError: It cannot be had; says why.
        """

    async def stop(self, allocation_id: str, grace_seconds: float) -> None:
        """Ask the sidecar, then the VMM, then kill; leave no unit, socket or file but the log."""

    async def leases(self) -> Mapping[str, float]:
        """When the leases of exclusive guests end, by allocation id, in CLOCK_BOOTTIME seconds."""

    async def extend_leases(self, until: Mapping[str, float]) -> None:
        """Let exclusive guests that run here run until then; the watchdog beside each reads it."""

    async def observe(self) -> Mapping[str, GuestProcess]:
        """Every guest on this host that is ours, owned or not, by allocation id."""

    async def serial_log(self, allocation_id: str, tail_bytes: int) -> str:
        """The end of what the guest printed.

        Raises:
            LaunchError: No such guest on this host.
        """

    async def close(self) -> None:
        """End what is made in the background; guests go on."""


OUTPUT_LOG = "output.log"  # in a unit's working directory: what the process printed


class UnitSpec(msgspec.Struct, frozen=True):
    """A process to keep apart from the agent. Its output is appended to OUTPUT_LOG.

    Attributes:
        name: Unique on the host, `sappers-…`, no suffix.
        command: Absolute program and arguments; nothing secret.
        memory_max_mib: Limit of its control group, or None.
        standard_input: Path that is opened for reading before any privilege is dropped, or empty.
        capabilities: What it may need of root's powers beside those that every unit begins with.
        device: Node in /dev that it may open beside those that nobody is refused, or empty.
        prepare: Run with all of root's powers before it starts, which it does not if this fails.
        clean_up: The same, once it has ended.
        user_id: Whom it runs as, without any of root's powers; None to stay who it begins as.
        writes: Folder that it may write to in place of its working directory, or empty.
        alone_in: Folder of which it sees its working directory and nothing else, or empty.
    """

    name: str
    command: tuple[str, ...]
    working_directory: str
    memory_max_mib: int | None = None
    description: str = ""
    standard_input: str = ""
    capabilities: tuple[str, ...] = ()
    device: str = ""
    prepare: tuple[str, ...] = ()
    clean_up: tuple[str, ...] = ()
    user_id: int | None = None
    writes: str = ""
    alone_in: str = ""


class UnitStatus(msgspec.Struct, frozen=True):
    """A supervised process, as last seen.

    Attributes:
        exit_code: When it ended, else None.
        started_at: Monotonic seconds of this host, or None when not known.
    """

    name: str
    running: bool
    exit_code: int | None = None
    started_at: float | None = None
    pid: int | None = None


class Supervisor(Protocol):
    """Runs processes that outlive the agent (`supervision/`): systemd, or detached ones."""

    async def start(self, spec: UnitSpec) -> None:
        """Start it; an ended unit of the same name is cleared first.

        Raises:
            SupervisorError: It runs already or cannot be started.
        """

    async def stop(self, name: str, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL; forget it. Nothing to do when it is not known."""

    async def send_signal(self, name: str, number: signal.Signals) -> None:
        """Send it a signal.

        Raises:
            SupervisorError: It does not run.
        """

    async def status(self, name: str) -> UnitStatus | None:
        """How it is, or None when it is not known."""

    async def list(self, prefix: str) -> tuple[UnitStatus, ...]:
        """All known units whose name begins so."""
