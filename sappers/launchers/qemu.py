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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog

from sappers.errors import (
    CloneFailed,
    ImageError,
    LaunchError,
    PortTaken,
    SappersError,
    TemplateError,
)
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
from sappers.launchers.machine import Clone, introduce, restored, started, unit_spec
from sappers.launchers.qmp import monitor
from sappers.launchers.spares import Spare, Spares
from sappers.launchers.verdict import Traces, judge
from sappers.model.allocation import Allocation
from sappers.model.guest_scope import GuestScope
from sappers.model.image import Manifest
from sappers.model.member import Accelerator, Member
from sappers.model.observation import GuestProcess
from sappers.ports import Clock, GuestCredentials, ImageStore, Refusals, Supervisor

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
        spares: `STATE_DIR/spares`.
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
        spares: Path,
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
            is_quiet=self._is_quiet,
        )
        self.spares = Spares(
            root=spares,
            images=images,
            supervisor=supervisor,
            units=self._units,
            spec_of=self._specs.of_nobody,
            is_quiet=self._is_quiet,
            is_held=self._checkpoints.is_held,
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
        began_at, folder = time.monotonic(), self._folder(allocation.id)
        unit = (await self._units.look()).get(folder.unit)
        if (unit is not None and unit.running) or allocation.id in self._starting:
            return
        self._starting.add(allocation.id)
        try:
            why_cold = await self._clone(folder, allocation, manifest, began_at)
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
        folder = self._folder(allocation_id)
        unit = folder.unit
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
        }
        known |= {name.removeprefix(UNIT_PREFIX) for name in units} | self._starting
        found: dict[str, GuestProcess] = {}
        templates: set[str] = set()
        were_spares: set[str] = set()
        for allocation_id in sorted(filter(is_allocation_id, known)):
            folder = self._folder(allocation_id)
            record = folder.record()
            unit = units.get((record and record.unit) or unit_of(allocation_id))
            if record is not None:
                were_spares.add(record.unit)
            if allocation_id in self._starting:
                found[allocation_id] = _starting(allocation_id, record)
            elif unit is not None and unit.running:
                found[allocation_id] = judge(allocation_id, unit, Traces())
                folder.trim_log()
                if record is not None:
                    found[allocation_id] = _started(found[allocation_id], record)
                    templates.add(record.template)
                    self._handovers.keep_informed(folder, record)
            else:
                found[allocation_id] = judge(allocation_id, unit, folder.traces())
        await self.spares.look_after(units, were_spares)
        await self._checkpoints.look_after(templates)
        return found

    async def close(self) -> None:
        """End what is made in the background; guests go on."""
        await self.spares.close()
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

    async def _clone(
        self, folder: GuestFolder, allocation: Allocation, manifest: Manifest, began_at: float
    ) -> str:
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
            linked = self._handovers.has_links(allocation.id)
            _check_port(spec)
            spare = self.spares.take(held, spec, linked=linked)
            if spare and not await self._from_spare(spare, spec, record, image, began_at):
                spare = None
            if spare is None:
                await self._prepare(folder, spec, record, image, clone=True)
                clone = Clone(folder, spec, record, held, self._changed_disks(image))
                try:
                    await self._start(folder, spec, clone)
                except PortTaken:
                    raise  # nor could it boot
                except LaunchError as error:
                    with contextlib.suppress(ImageError):
                        if changed := await clone.disks:
                            return f"{', '.join(changed)} was damaged"
                    why = " ".join(error.message.split())[:_REASON_CHARACTERS]
                    if not isinstance(error, CloneFailed):
                        return f"it could not be cloned: {why}"
                    await self._checkpoints.discard(held, why)
                    return f"its template did not come up: {why}"
        unit = spare.unit if spare else unit_of(allocation.id)
        log.info("guest started", allocation=allocation.id, start=record.start, unit=unit)
        self.spares.used(held, manifest, spec, linked=linked)
        return ""

    async def _from_spare(
        self, spare: Spare, spec: command.GuestSpec, record: Record, image: str, began_at: float
    ) -> bool:
        """Make a guest of a spare; whether it came up, else nothing is left of it.

        Raises:
            PortTaken: Nor could another.
        """
        record = msgspec.structs.replace(record, unit=spare.unit, began_at=began_at)
        disks = self._changed_disks(image, spare.check_files)
        clone = Clone(spare.folder, spec, record, spare.held, disks)
        try:
            async with spare.given() as (qemu, sidecar):
                spare.folder.become(self._root, record)
                self.spares.give(spare)
                await introduce(clone, qemu, sidecar, self._handovers)
        except LaunchError as error:
            await asyncio.gather(disks, return_exceptions=True)
            await self.spares.end(spare)
            if isinstance(error, PortTaken):
                raise
            log.warning("spare failed", allocation=record.allocation_id, reason=error.message)
            return False
        return True

    def _changed_disks(
        self, image: str, afterwards: Callable[[], None] = lambda: None
    ) -> asyncio.Task[tuple[str, ...]]:
        def look() -> tuple[str, ...]:
            changed = changed_disks(self._images, image)
            afterwards()
            return changed

        return asyncio.create_task(asyncio.to_thread(look))

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
            await self._start(folder, spec)
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
        *,
        clone: bool = False,
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
                files = verified_files(self._images, image, clone=clone)
                folder.prepare(record, files, spec.user_id)
                if spec.lease_file:
                    folder.write_lease(until)

        _check_port(spec)
        try:
            await asyncio.to_thread(fill)
        except (SappersError, OSError) as error:
            await asyncio.to_thread(folder.clear)
            why = f"{folder.path}: {error.strerror}" if isinstance(error, OSError) else error
            raise LaunchError(f"guest {spec.allocation_id} does not start: {why}") from error

    async def _start(
        self, folder: GuestFolder, spec: command.GuestSpec, clone: Clone | None = None
    ) -> None:
        """Start QEMU; a clone's knows who it is when this returns.

        Raises:
            LaunchError: It does not come up; nothing is left but its log.
        """
        held = clone.held if clone else None
        unit = unit_spec(unit_of(spec.allocation_id), spec, folder, held)
        async with started(self._supervisor, folder, unit) as qemu:
            if clone:
                async with restored(folder, qemu, clone.held, spec) as sidecar:
                    await introduce(clone, qemu, sidecar, self._handovers)

    async def _runs(self, unit: str) -> bool:
        status = await self._supervisor.status(unit)
        return status is not None and status.running

    async def _ended(self, unit: str, wait_seconds: float) -> None:
        deadline = time.monotonic() + wait_seconds
        while await self._runs(unit) and time.monotonic() < deadline:  # noqa: ASYNC110 - a process
            await asyncio.sleep(_POLL_SECONDS)

    def _is_quiet(self) -> bool:
        return not self._starting and not self._booting

    def _folder(self, allocation_id: str) -> GuestFolder:
        return GuestFolder(self._root, allocation_id)


def _check_port(spec: command.GuestSpec) -> None:
    if spec.guest_port is not None and spec.host_port is not None:
        check_free(spec.address, spec.host_port)


def _starting(allocation_id: str, record: Record | None) -> GuestProcess:
    """A guest that is being started; one that has confirmed who it is may push at any moment."""
    guest = GuestProcess(allocation_id, running=True)
    return guest if record is None or record.told is None else _started(guest, record)


def _started(guest: GuestProcess, record: Record) -> GuestProcess:
    started_at = guest.started_at if record.began_at is None else record.began_at
    return msgspec.structs.replace(guest, reason=record.start, started_at=started_at)
