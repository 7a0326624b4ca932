"""Guests as QEMU processes, each in a unit of its own that no restart of the agent touches.

What must be known of a guest later is on disk or in its own QEMU, so an agent that restarts finds
every guest again: units by name, records by folder. Credentials are never on disk; a guest that has
not confirmed its configuration, or was told of other hub servers, gets it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from sappers.errors import LaunchError, SappersError
from sappers.launchers import command, control
from sappers.launchers.guest_folder import GuestFolder, Record, prune_logs
from sappers.launchers.host_port import check_free
from sappers.launchers.verdict import Traces, judge
from sappers.model.allocation import Allocation
from sappers.model.image import Manifest
from sappers.model.member import Accelerator, Member
from sappers.model.observation import GuestProcess
from sappers.ports import Clock, GuestCredentials, ImageStore, Supervisor, UnitSpec
from sappers.security.tls import AGENT_SERVER_NAME

log = structlog.get_logger(__name__)

UNIT_PREFIX = "sappers-guest-"
_ALLOCATION_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,70}[a-z0-9])?")
_QEMU_START_SECONDS = 15.0
_BOOT_SECONDS = 60.0
_QUIT_SECONDS = 2.0
_POLL_SECONDS = 0.05


class QemuLauncher:
    """Starts and stops guests; implements `ports.Launcher`.

    Args:
        folder: `STATE_DIR/guests`.
        hub: The members that run the hub now.
        ca: Certificate of the cluster's authority; None where the hub has no TLS (tests).
        address: This member's address; published ports are there.
        cold_boots: How many guests may boot at once; the cores when None.
    """

    def __init__(
        self,
        *,
        folder: Path,
        images: ImageStore,
        supervisor: Supervisor,
        hub: Callable[[], Sequence[Member]],
        ca: Path | None,
        credentials: GuestCredentials,
        accelerator: Accelerator,
        address: str,
        clock: Clock,
        cold_boots: int | None = None,
    ) -> None:
        self._root = folder
        self._images = images
        self._supervisor = supervisor
        self._hub = hub
        self._ca_pem = ca.read_text() if ca else ""
        self._credentials = credentials
        self._accelerator = accelerator
        self._address = address
        self._clock = clock
        self._boots = asyncio.Semaphore(cold_boots or os.cpu_count() or 1)
        self._starting: set[str] = set()
        self._handovers: dict[str, asyncio.Task[None]] = {}

    async def launch(self, allocation: Allocation, manifest: Manifest) -> None:
        """Start the guest in a unit of its own and hand its sidecar what it must know.

        Waits for its turn when as many guests boot as there are cores; returns once QEMU runs. The
        configuration follows in the background. Nothing to do when the guest runs already.

        Raises:
            LaunchError: It does not start; carries the end of its log.
        """
        folder = self._folder(allocation.id)
        unit = await self._supervisor.status(_unit(allocation.id))
        if (unit is not None and unit.running) or allocation.id in self._starting:
            return
        self._starting.add(allocation.id)
        try:
            await self._boots.acquire()
            try:
                await self._start(folder, allocation, manifest)
            except BaseException:
                self._boots.release()
                raise
            self._hand_over(folder, release_boot=True)
        finally:
            self._starting.discard(allocation.id)

    async def stop(self, allocation_id: str, grace_seconds: float) -> None:
        """Ask the sidecar, then QEMU, then kill; leave no unit, socket or file but the log."""
        folder, unit = self._folder(allocation_id), _unit(allocation_id)
        if handover := self._handovers.pop(allocation_id, None):
            handover.cancel()
            await asyncio.wait([handover])
        if grace_seconds > 0 and await self._runs(unit):
            # Whatever they answer, they have no say in whether they end.
            with contextlib.suppress(Exception):
                await control.ask_to_shut_down(folder, grace_seconds)
                await self._ended(unit, grace_seconds)
            if await self._runs(unit):
                with contextlib.suppress(Exception):
                    await control.qmp(folder, "quit")
                    await self._ended(unit, _QUIT_SECONDS)
        await self._supervisor.stop(unit, min(grace_seconds, 1.0))
        if folder.path.exists():
            await asyncio.to_thread(folder.clear)
            await asyncio.to_thread(prune_logs, self._root)

    async def observe(self) -> Mapping[str, GuestProcess]:
        """Every guest on this host that is ours, owned or not, by allocation id."""
        units = {
            unit.name.removeprefix(UNIT_PREFIX): unit
            for unit in await self._supervisor.list(UNIT_PREFIX)
        }
        # A folder to run in, without a record, is what a guest left whose start was cut short.
        known = {
            path.parent.name
            for trace in ("record.json", "run")
            for path in self._root.glob(f"*/{trace}")
        }
        found: dict[str, GuestProcess] = {}
        for allocation_id in sorted(known | units.keys() | self._starting):
            folder, unit = GuestFolder(self._root, allocation_id), units.get(allocation_id)
            if allocation_id in self._starting:
                found[allocation_id] = GuestProcess(allocation_id, running=True, reason="starting")
            elif unit is not None and unit.running:
                found[allocation_id] = judge(allocation_id, unit, Traces())
                folder.trim_log()
                self._keep_informed(folder)
            else:
                found[allocation_id] = judge(allocation_id, unit, folder.traces())
        return found

    async def serial_log(self, allocation_id: str, tail_bytes: int) -> str:
        """The end of what the guest printed; of one that is gone, too.

        Raises:
            LaunchError: No such guest on this host.
        """
        text = await asyncio.to_thread(self._folder(allocation_id).serial_log, tail_bytes)
        if text is None:
            raise LaunchError(f"no guest {allocation_id} on this host")
        return text

    async def _start(self, folder: GuestFolder, allocation: Allocation, manifest: Manifest) -> None:
        if missing := self._images.missing(allocation.image.digest):
            raise LaunchError(f"image {allocation.image.name} lacks blob {missing[0][:12]} here")
        spec = self._spec(allocation)
        if spec.guest_port is not None and spec.host_port is not None:
            check_free(self._address, spec.host_port)
        try:
            record = Record(allocation.id, manifest.health_interval_seconds)
            kernel, initrd = (
                self._images.blob_path(blob.digest) for blob in (manifest.kernel, manifest.initrd)
            )
            await asyncio.to_thread(folder.prepare, record, kernel, initrd, spec.user_id)
            await self._supervisor.start(
                UnitSpec(
                    name=_unit(allocation.id),
                    command=command.qemu_command(spec),
                    working_directory=str(folder.run),
                    memory_max_mib=command.memory_limit_mib(
                        allocation.memory_mib, self._accelerator
                    ),
                    description=f"Sappers guest {allocation.id}",
                )
            )
            await self._qemu_answers(folder, _unit(allocation.id))
        except (SappersError, OSError) as error:
            traces = folder.traces()
            await self._supervisor.stop(_unit(allocation.id), 0.0)
            await asyncio.to_thread(folder.clear)
            tail = traces.output.strip()[-500:]
            raise LaunchError(
                f"guest {allocation.id} does not start: {error}" + (f": {tail}" if tail else "")
            ) from error

    def _spec(self, allocation: Allocation) -> command.GuestSpec:
        root = os.geteuid() == 0
        groups: tuple[int, ...] = ()
        if root and self._accelerator.kind == "kvm":
            groups = (Path("/dev/kvm").stat().st_gid,)
        guest_port = allocation.guest_port
        return command.GuestSpec(
            allocation_id=allocation.id,
            memory_mib=allocation.memory_mib,
            accelerator=self._accelerator,
            address=self._address,
            guest_port=guest_port,
            host_port=guest_port if allocation.host_port is None else allocation.host_port,
            tsc_khz=command.host_tsc_khz(Path("/proc/cpuinfo").read_text()),
            user_id=command.user_id_for(allocation.id) if root else None,
            groups=groups,
        )

    async def _qemu_answers(self, folder: GuestFolder, unit: str) -> None:
        """Return once QEMU has set up everything, ports included, and runs the guest."""
        deadline = time.monotonic() + _QEMU_START_SECONDS
        while True:
            if (folder.run / command.QMP_SOCKET).exists():
                try:
                    await control.qmp(folder, "query-status")
                except LaunchError:
                    if time.monotonic() > deadline:
                        raise
                else:
                    return
            if not await self._runs(unit):
                raise LaunchError("QEMU ended at once")
            if time.monotonic() > deadline:
                raise LaunchError("QEMU does not answer")
            await asyncio.sleep(_POLL_SECONDS)

    def _keep_informed(self, folder: GuestFolder) -> None:
        """Start a handover when the guest has not confirmed what holds now."""
        if folder.path.name in self._handovers:
            return
        record = folder.record()
        servers = self._servers()
        if record is None or record.told == servers or (record.told is not None and not servers):
            return
        self._hand_over(folder, release_boot=False)

    def _hand_over(self, folder: GuestFolder, *, release_boot: bool) -> None:
        allocation_id = folder.path.name

        def done(task: asyncio.Task[None]) -> None:
            if release_boot:
                self._boots.release()
            if self._handovers.get(allocation_id) is task:
                del self._handovers[allocation_id]
            if not task.cancelled() and (error := task.exception()):
                log.warning("guest not configured", allocation=allocation_id, reason=str(error))

        task = asyncio.create_task(self._configure(folder), name=f"configure {allocation_id}")
        self._handovers[allocation_id] = task
        task.add_done_callback(done)

    async def _configure(self, folder: GuestFolder) -> None:
        """Tell a guest who it is and where the hub is; ends when it confirms or ends.

        Raises:
            LaunchError: It has not answered by the deadline.
        """
        record = folder.record()
        if record is None:
            return
        servers = self._servers()
        unit = _unit(record.allocation_id)
        handover = asyncio.create_task(
            control.configure(
                folder,
                lambda: self._message(record, servers),
                _BOOT_SECONDS if record.told is None else 0.0,
            )
        )
        try:
            while not handover.done() and await self._runs(unit):
                await asyncio.wait([handover], timeout=1.0)
        finally:
            if not handover.done():
                handover.cancel()
        if handover.done() and not handover.cancelled():
            handover.result()
            folder.write(msgspec.structs.replace(record, told=servers))
            log.info("guest configured", allocation=record.allocation_id, hub=servers)

    def _message(self, record: Record, servers: tuple[str, ...]) -> dict[str, Any]:
        return control.configuration(
            record.allocation_id,
            servers,
            self._ca_pem,
            AGENT_SERVER_NAME,
            self._credentials.mint(record.allocation_id),
            record.health_interval_seconds,
            self._clock.now(),
        )

    def _servers(self) -> tuple[str, ...]:
        return tuple(sorted(f"{member.address}:{member.ports.hub}" for member in self._hub()))

    async def _runs(self, unit: str) -> bool:
        status = await self._supervisor.status(unit)
        return status is not None and status.running

    async def _ended(self, unit: str, wait_seconds: float) -> None:
        deadline = time.monotonic() + wait_seconds
        while await self._runs(unit) and time.monotonic() < deadline:  # noqa: ASYNC110 - a process
            await asyncio.sleep(_POLL_SECONDS)

    def _folder(self, allocation_id: str) -> GuestFolder:
        if not _ALLOCATION_ID.fullmatch(allocation_id):
            raise LaunchError(f"{allocation_id!r} is no allocation id")
        return GuestFolder(self._root, allocation_id)


def _unit(allocation_id: str) -> str:
    return f"{UNIT_PREFIX}{allocation_id}"
