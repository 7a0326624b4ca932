"""A guest's QEMU as it starts: its unit, what it is restored from, and who it is told to be."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Collection, Iterator
from dataclasses import dataclass

from sappers.errors import CloneFailed, LaunchError, PortTaken, SappersError
from sappers.launchers import command, control, watchdog
from sappers.launchers.guest_folder import GuestFolder, Record
from sappers.launchers.handover import Handovers
from sappers.launchers.own_address import give_own_address
from sappers.launchers.qmp import Monitor, first_monitor
from sappers.launchers.template_maker import descriptor_path
from sappers.launchers.templates import Held
from sappers.ports import Supervisor, UnitSpec

_VERDICT_SECONDS, _POLL_SECONDS = 0.5, 0.05  # from a process's end to the word of how


@dataclass(frozen=True)
class Clone:
    """A guest that starts from a template.

    Attributes:
        record: As it is before the guest has confirmed anything.
        disks: Which of the files that it reads had changed; hashed for this start.
    """

    folder: GuestFolder
    spec: command.GuestSpec
    record: Record
    held: Held
    disks: Awaitable[Collection[str]]


def unit_spec(
    name: str, spec: command.GuestSpec, folder: GuestFolder, held: Held | None
) -> UnitSpec:
    """The unit of a guest that boots, or is to be restored from a template."""
    return UnitSpec(
        name=name,
        command=command.clone_command(spec) if held else command.qemu_command(spec),
        working_directory=str(folder.run),
        memory_max_mib=command.memory_limit_mib(spec.memory_mib, spec.accelerator)
        + (watchdog.MEMORY_MIB if spec.lease_file else 0),
        description=f"Sappers guest {spec.allocation_id}",
        standard_input=descriptor_path(held.memory) if held else "",
        capabilities=("CAP_KILL",) if spec.lease_file else (),
        device=command.device_of(spec.accelerator),
    )


@contextlib.asynccontextmanager
async def started(
    supervisor: Supervisor, folder: GuestFolder, unit: UnitSpec
) -> AsyncIterator[Monitor]:
    """Start a QEMU; a conversation with it. What is done in it belongs to the start.

    Raises:
        LaunchError: It does not come up, or what is done in it failed, as `CloneFailed` or
            `PortTaken` where it was that; nothing is left but its log.
    """
    # QEMU answers before whoever supervises it has said that it runs: it is not waited for.
    starting = asyncio.create_task(supervisor.start(unit))

    async def runs() -> bool:
        if not starting.done():
            return True
        starting.result()
        status = await supervisor.status(unit.name)
        return status is not None and status.running

    try:
        async with first_monitor(folder, runs) as qemu:
            yield qemu
        await starting
    except asyncio.CancelledError:
        starting.cancel()
        raise
    except (SappersError, OSError) as error:
        await asyncio.wait([starting])
        traces, kind = folder.traces(), LaunchError
        if isinstance(error, PortTaken):
            kind = PortTaken
        elif isinstance(error, CloneFailed) and not await _was_killed(supervisor, unit.name):
            kind = CloneFailed
        await supervisor.stop(unit.name, 0.0)
        await asyncio.to_thread(folder.clear)
        tail = traces.output.strip()[-500:]
        raise kind(
            f"guest {folder.path.name} does not start: {error}" + (f": {tail}" if tail else "")
        ) from error


async def _was_killed(supervisor: Supervisor, unit: str) -> bool:
    """Whether somebody killed a QEMU, as a host does that runs out of memory."""
    deadline = time.monotonic() + _VERDICT_SECONDS
    while (status := await supervisor.status(unit)) is not None and status.running:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return status is not None and status.exit_code == 128 + signal.SIGKILL


@contextlib.asynccontextmanager
async def restored(
    folder: GuestFolder, qemu: Monitor, held: Held, spec: command.GuestSpec
) -> AsyncIterator[control.Connected]:
    """Fill a QEMU with a template; the line to its sidecar, which stands still.

    Args:
        spec: What QEMU was started as; a unikernel has this MAC from now on.

    Raises:
        CloneFailed: It cannot be restored.
        LaunchError: Its sidecar's line does not open.
    """
    # The guest knows its member as connected, as it was when it was saved.
    async with control.connection(folder) as connected:
        with _blaming_the_template():
            with held.device_file() as device:
                await qemu.restore(device)
            if spec.kind == "nanos":
                await give_own_address(folder, qemu, held, spec.mac)
        yield connected


async def introduce(
    clone: Clone, qemu: Monitor, sidecar: control.Connected, handovers: Handovers
) -> None:
    """Make a restored machine its allocation's guest: let it go, and tell it first who it is.

    Raises:
        CloneFailed: It does not confirm.
        LaunchError: A file that it reads was damaged, or there should be no such guest any more.
        PortTaken: Somebody has its port.
    """
    servers = handovers.servers()
    if changed := await clone.disks:
        raise LaunchError(f"{', '.join(changed)} was damaged")
    if publishing := command.publishing(clone.spec):
        await qemu.publish(publishing)
    message, confirmed = handovers.message(clone.record, servers)
    counting = handovers.counting(clone.record.allocation_id)
    with _blaming_the_template(), counting, control.conversing():
        # What it is told waits for it at its port, and it does not wait for that.
        told = control.configure_clone(sidecar, message)
        await asyncio.gather(qemu.execute("cont"), told)
    clone.folder.write(confirmed)


@contextlib.contextmanager
def _blaming_the_template() -> Iterator[None]:
    """A block that fails only where what was saved is no good; all else speaks of this host."""
    try:
        yield
    except LaunchError as error:
        raise CloneFailed(error.message) from error
