"""Guests as QEMU processes, each in a unit of its own that no restart of the agent touches.

What must be known of a guest later is on disk or in its own QEMU, so an agent that restarts finds
every guest again: units by name, records by folder. Credentials are never on disk; a guest that has
not confirmed its configuration, or was told of other hub servers, gets it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog

from sappers.errors import ImageError, LaunchError, PortTaken, SappersError, TemplateError
from sappers.launchers import command, control, watchdog
from sappers.launchers.checkpoints import Checkpoints
from sappers.launchers.guest_folder import (
    UNIT_PREFIX,
    GuestFolder,
    Record,
    is_allocation_id,
    prune_logs,
    unit_of,
)
from sappers.launchers.guest_specs import GuestSpecs
from sappers.launchers.guest_units import GuestUnits
from sappers.launchers.handover import CREDENTIALS_SECONDS, Handovers
from sappers.launchers.host_port import check_free
from sappers.launchers.image_files import changed_disks, verified_files
from sappers.launchers.own_address import give_own_address
from sappers.launchers.qmp import Monitor, first_monitor, monitor
from sappers.launchers.template_maker import descriptor_path
from sappers.launchers.templates import Held
from sappers.launchers.verdict import Traces, judge
from sappers.model.allocation import Allocation
from sappers.model.guest_scope import GuestScope
from sappers.model.image import Manifest
from sappers.model.member import Accelerator, Member
from sappers.model.observation import GuestProcess
from sappers.ports import Clock, GuestCredentials, ImageStore, Refusals, Supervisor, UnitSpec

log = structlog.get_logger(__name__)

_QUIT_SECONDS = 1.0
_POLL_SECONDS = 0.05
_CLONES_PER_CORE = 4
_REASON_CHARACTERS = 200


class QemuLauncher:
    """Starts and stops guests; implements `ports.Launcher`.

    Args:
        folder: `STATE_DIR/guests`.
        templates: `STATE_DIR/templates`.
        hub: The members that run the hub now.
        ca: Certificate of the cluster's authority; None where the hub has no TLS (tests).
        scope_of: What an allocation's guest may say and hear; None once it should end.
        links_of: Ports of this host's loopback that lead to what a guest is linked to.
        address: This member's address; published ports are there.
        cold_boots: How many guests may boot at once; the cores when None. Four times as many may
            start from templates.
        credentials_seconds: How long a guest's credentials last without the agent.
        hub_term: Term of the leader who chose the hub's members.
        lease_of: When the lease of an exclusive allocation ends (CLOCK_BOOTTIME); 0: it has none.
    """

    def __init__(
        self,
        *,
        folder: Path,
        templates: Path,
        images: ImageStore,
        supervisor: Supervisor,
        hub: Callable[[], Sequence[Member]],
        ca: Path | None,
        credentials: GuestCredentials,
        scope_of: Callable[[str], GuestScope | None],
        accelerator: Accelerator,
        address: str,
        clock: Clock,
        refusals: Refusals,
        links_of: Callable[[str], Mapping[str, int]] = lambda _: {},
        cold_boots: int | None = None,
        credentials_seconds: float = CREDENTIALS_SECONDS,
        lease_of: Callable[[str], float] = lambda _: 0.0,
        hub_term: Callable[[], int] = lambda: 0,
    ) -> None:
        self._root = folder
        self._images = images
        self._supervisor = supervisor
        self._lease_of = lease_of
        self._accelerator = accelerator
        self._address = address
        cold_boots = cold_boots or os.cpu_count() or 1
        self._boots = asyncio.Semaphore(cold_boots)
        self._clones = asyncio.Semaphore(_CLONES_PER_CORE * cold_boots)
        self._units = GuestUnits(supervisor, UNIT_PREFIX, time.monotonic)
        self._starting: set[str] = set()
        self._booting = 0
        self._handovers = Handovers(
            supervisor=supervisor,
            hub=hub,
            ca_pem=ca.read_text() if ca else "",
            credentials=credentials,
            scope_of=scope_of,
            links_of=links_of,
            hub_term=hub_term,
            clock=clock,
            refusals=refusals,
            credentials_seconds=credentials_seconds,
        )
        self._specs = GuestSpecs(folder, accelerator, address)
        self._checkpoints = Checkpoints(
            root=templates,
            images=images,
            supervisor=supervisor,
            spec_of=self._specs.of_nobody,
            is_quiet=lambda: not self._starting and not self._booting,
        )

    async def launch(self, allocation: Allocation, manifest: Manifest) -> None:
        """Start the guest in a unit of its own and hand its sidecar what it must know.

        A guest starts from a template of its image where there is one, and is told who it is before
        this returns. Otherwise it boots, when fewer guests do than there are cores; then this
        returns once QEMU runs, and the configuration follows in the background. Nothing to do when
        the guest runs already.

        Raises:
            LaunchError: It does not start; carries the end of its log.
        """
        folder = self._folder(allocation.id)
        unit = await self._supervisor.status(unit_of(allocation.id))
        if (unit is not None and unit.running) or allocation.id in self._starting:
            return
        self._starting.add(allocation.id)
        try:
            why_cold = await self._clone(folder, allocation, manifest)
            if why_cold:
                await self._boot(folder, allocation, manifest, why_cold)
        finally:
            self._starting.discard(allocation.id)
            self._units.changed()

    async def warm(self, manifest: Manifest, digest: str) -> str:
        """Have a template of the image; what happened, for a person.

        Raises:
            TemplateError: None can be made; says why.
        """
        return await self._checkpoints.make_now(digest, manifest)

    async def stop(self, allocation_id: str, grace_seconds: float) -> None:
        """Ask the sidecar, then QEMU, then kill; leave no unit, socket or file but the log."""
        folder, unit = self._folder(allocation_id), unit_of(allocation_id)
        await self._handovers.end(allocation_id)
        if grace_seconds > 0 and await self._runs(unit):
            # Whatever they answer, they have no say in whether they end.
            with contextlib.suppress(Exception), self._handovers.counting(allocation_id):
                await control.ask_to_shut_down(folder, grace_seconds)
                await self._ended(unit, grace_seconds)
            if await self._runs(unit):
                with contextlib.suppress(Exception):
                    # One that stands still answers nothing, and is not asked for long.
                    async with asyncio.timeout(_QUIT_SECONDS), monitor(folder) as qemu:
                        await qemu.execute("quit")
                        await self._ended(unit, _QUIT_SECONDS)
        await self._supervisor.stop(unit, min(grace_seconds, 1.0))
        self._units.changed()
        if folder.path.exists():
            await asyncio.to_thread(folder.clear)
            await asyncio.to_thread(prune_logs, self._root)

    async def leases(self) -> Mapping[str, float]:
        """When the leases of exclusive guests end, by allocation id, in CLOCK_BOOTTIME seconds."""
        paths = await asyncio.to_thread(lambda: list(self._root.glob("*/lease")))
        return {path.parent.name: watchdog.lease_until(str(path)) for path in paths}

    async def extend_leases(self, until: Mapping[str, float]) -> None:
        """Let exclusive guests that run here run until then; the watchdog beside each reads it."""
        for allocation_id, moment in until.items():
            folder = self._folder(allocation_id)
            if folder.lease.exists():
                folder.write_lease(moment)

    async def observe(self) -> Mapping[str, GuestProcess]:
        """Every guest on this host that is ours, owned or not, by allocation id."""
        units = await self._units.look()
        # A folder to run in, without a record, is what a guest left whose start was cut short.
        known = {
            path.parent.name
            for trace in ("record.json", "run")
            for path in self._root.glob(f"*/{trace}")
            if is_allocation_id(path.parent.name)
        }
        found: dict[str, GuestProcess] = {}
        templates: set[str] = set()
        for allocation_id in sorted(known | units.keys() | self._starting):
            folder, unit = GuestFolder(self._root, allocation_id), units.get(allocation_id)
            if allocation_id in self._starting:
                found[allocation_id] = _starting(allocation_id, folder.record())
            elif unit is not None and unit.running:
                record = folder.record()
                found[allocation_id] = judge(allocation_id, unit, Traces())
                folder.trim_log()
                if record is not None:
                    found[allocation_id] = _started(found[allocation_id], record)
                    templates.add(record.template)
                    self._handovers.keep_informed(folder, record)
            else:
                found[allocation_id] = judge(allocation_id, unit, folder.traces())
        await self._checkpoints.look_after(templates)
        return found

    async def close(self) -> None:
        """End what is made in the background; guests go on."""
        await self._checkpoints.close()

    async def serial_log(self, allocation_id: str, tail_bytes: int) -> str:
        """The end of what the guest printed; of one that is gone, too.

        Raises:
            LaunchError: No such guest on this host.
        """
        text = await asyncio.to_thread(self._folder(allocation_id).serial_log, tail_bytes)
        if text is None:
            raise LaunchError(f"no guest {allocation_id} on this host")
        return text

    async def _clone(self, folder: GuestFolder, allocation: Allocation, manifest: Manifest) -> str:
        """Start the guest from a template; why it must boot instead, or empty when it runs."""
        if not self._handovers.is_wanted(allocation.id):
            return "no leader says who it is, which a clone is told at once"
        async with self._clones:
            try:
                held = await self._checkpoints.template_for(allocation, manifest)
            except TemplateError as error:
                return error.message
            record = Record(
                allocation.id,
                manifest.health_interval_seconds,
                start="started from a template",
                template=held.template.key,
            )
            spec, image = self._specs.of(allocation, manifest), allocation.image.digest
            await self._prepare(folder, spec, record, image, held)
            disks = asyncio.create_task(asyncio.to_thread(changed_disks, self._images, image))
            try:
                await self._start(folder, spec, record, held, disks)
            except PortTaken:
                raise  # nor could it boot
            except LaunchError as error:
                with contextlib.suppress(ImageError):
                    if changed := await disks:
                        return f"{', '.join(changed)} was damaged"
                why = " ".join(error.message.split())[:_REASON_CHARACTERS]
                await self._checkpoints.discard(held, why)
                return f"its template did not come up: {why}"
        log.info("guest started", allocation=allocation.id, start=record.start)
        return ""

    async def _boot(
        self, folder: GuestFolder, allocation: Allocation, manifest: Manifest, why_cold: str
    ) -> None:
        record = Record(
            allocation.id, manifest.health_interval_seconds, start=f"cold boot: {why_cold}"
        )
        spec = self._specs.of(allocation, manifest)
        await self._boots.acquire()
        try:
            await self._prepare(folder, spec, record, allocation.image.digest)
            await self._start(folder, spec, record)
        except BaseException:
            self._boots.release()
            raise
        log.info("guest started", allocation=allocation.id, start=record.start)
        self._booting += 1

        def boot_ended() -> None:
            self._boots.release()
            self._booting -= 1

        self._handovers.begin(folder, boot_ended)
        if not allocation.cold:
            self._checkpoints.make_later(allocation.image.digest, manifest, allocation.memory_mib)

    async def _prepare(
        self,
        folder: GuestFolder,
        spec: command.GuestSpec,
        record: Record,
        image: str,
        held: Held | None = None,
    ) -> None:
        """Fill the guest's folder with what of its image is trusted and verified now.

        Raises:
            LaunchError: The image is not whole, or the guest's port is taken; nothing is left.
        """

        until = self._lease_of(spec.allocation_id)
        if spec.lease_file and until <= watchdog.now():
            raise LaunchError(
                f"guest {spec.allocation_id} has no lease: the quorum does not answer"
            )

        def fill() -> None:
            with self._images.holding():
                files = verified_files(self._images, image, clone=held is not None)
                folder.prepare(record, files, spec.user_id)
                if spec.lease_file:
                    folder.write_lease(until)

        if spec.guest_port is not None and spec.host_port is not None:
            check_free(spec.address, spec.host_port)
        try:
            await asyncio.to_thread(fill)
        except (SappersError, OSError) as error:
            await asyncio.to_thread(folder.clear)
            raise LaunchError(f"guest {spec.allocation_id} does not start: {error}") from error

    async def _start(
        self,
        folder: GuestFolder,
        spec: command.GuestSpec,
        record: Record,
        held: Held | None = None,
        disks: Awaitable[Collection[str]] | None = None,
    ) -> None:
        """Start QEMU; with a template, return once the guest knows who it is.

        Raises:
            LaunchError: It does not come up; nothing is left but its log.
        """
        unit = unit_of(spec.allocation_id)
        # QEMU answers before whoever supervises it has said that it runs: it is not waited for.
        starting = asyncio.create_task(
            self._supervisor.start(
                UnitSpec(
                    name=unit,
                    command=command.clone_command(spec) if held else command.qemu_command(spec),
                    working_directory=str(folder.run),
                    memory_max_mib=command.memory_limit_mib(spec.memory_mib, self._accelerator)
                    + (watchdog.MEMORY_MIB if spec.lease_file else 0),
                    description=f"Sappers guest {spec.allocation_id}",
                    standard_input=descriptor_path(held.memory) if held else "",
                    capabilities=("CAP_KILL",) if spec.lease_file else (),
                    device=command.device_of(spec.accelerator),
                )
            )
        )

        async def runs() -> bool:
            if not starting.done():
                return True
            starting.result()
            return await self._runs(unit)

        try:
            async with first_monitor(folder, runs) as qemu:
                if held and disks:
                    await self._restore(folder, qemu, spec, record, held, disks)
            await starting
        except asyncio.CancelledError:
            starting.cancel()
            raise
        except (SappersError, OSError) as error:
            await asyncio.wait([starting])
            traces = folder.traces()
            await self._supervisor.stop(unit, 0.0)
            await asyncio.to_thread(folder.clear)
            tail = traces.output.strip()[-500:]
            kind = PortTaken if isinstance(error, PortTaken) else LaunchError
            raise kind(
                f"guest {spec.allocation_id} does not start: {error}"
                + (f": {tail}" if tail else "")
            ) from error

    async def _restore(
        self,
        folder: GuestFolder,
        qemu: Monitor,
        spec: command.GuestSpec,
        record: Record,
        held: Held,
        disks: Awaitable[Collection[str]],
    ) -> None:
        """Fill QEMU with the template, let it go, and tell it first of all who it is."""
        servers = self._handovers.servers()
        with self._handovers.counting(record.allocation_id):
            # The guest knows its member as connected, as it was when it was saved.
            async with control.connection(folder) as connected:
                with held.device_file() as device:
                    await qemu.restore(device)
                if spec.kind == "nanos":
                    await give_own_address(folder, qemu, held, spec.mac)
                if changed := await disks:
                    raise LaunchError(f"{', '.join(changed)} was damaged")
                if publishing := command.publishing(spec):
                    await qemu.publish(publishing)
                message, confirmed = self._handovers.message(record, servers)
                # What it is told waits for it at its port, and it does not wait for that.
                told = control.configure_clone(connected, message)
                await asyncio.gather(qemu.execute("cont"), told)
            folder.write(confirmed)

    async def _runs(self, unit: str) -> bool:
        status = await self._supervisor.status(unit)
        return status is not None and status.running

    async def _ended(self, unit: str, wait_seconds: float) -> None:
        deadline = time.monotonic() + wait_seconds
        while await self._runs(unit) and time.monotonic() < deadline:  # noqa: ASYNC110 - a process
            await asyncio.sleep(_POLL_SECONDS)

    def _folder(self, allocation_id: str) -> GuestFolder:
        return GuestFolder(self._root, allocation_id)


def _starting(allocation_id: str, record: Record | None) -> GuestProcess:
    """A guest that is being started; one that has confirmed who it is may push at any moment."""
    guest = GuestProcess(allocation_id, running=True)
    return guest if record is None or record.told is None else _started(guest, record)


def _started(guest: GuestProcess, record: Record) -> GuestProcess:
    return msgspec.structs.replace(guest, reason=record.start)
