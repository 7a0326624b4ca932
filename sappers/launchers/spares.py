"""Spares: clones that are restored already, stand still, and are nobody yet.

    STATE_DIR/spares/<spare>/    as a guest's folder, and renamed to it when the spare becomes one

A launch that finds one need not wait for a QEMU to start. Invariant: a spare becomes one guest or
none. Whoever takes one has it alone, and it is ended when that fails. It is a guest from the moment
that its folder is one's, with a record that names its unit; before, whoever finds it ends it.

It takes memory as long as it waits, and no processor time. So there is one for a template only for
some time after a guest came from that, and only where memory is plenty (`spare_rules`).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path

import msgspec
import structlog

from sappers.errors import LaunchError, SappersError
from sappers.launchers import command, control
from sappers.launchers.guest_folder import SPARE_PREFIX, GuestFolder, Record
from sappers.launchers.guest_identity import mac_for, user_id_for
from sappers.launchers.guest_units import GuestUnits
from sappers.launchers.image_files import verified_files
from sappers.launchers.machine import restored, started, unit_spec
from sappers.launchers.qmp import Monitor
from sappers.launchers.spare_rules import Outlook, fits, keeps_spare, makes_spare
from sappers.launchers.template_maker import available_memory_mib
from sappers.launchers.templates import Held
from sappers.model.image import Manifest
from sappers.ports import ImageStore, Supervisor, UnitStatus

log = structlog.get_logger(__name__)

_POLL_SECONDS = 0.5


class Spare:
    """One machine that stands still, and the lines to it.

    Attributes:
        held: What it was restored from.
        spec: What it was started as.
        unit: What it runs in, for ever.
    """

    def __init__(
        self,
        held: Held,
        spec: command.GuestSpec,
        unit: str,
        folder: GuestFolder,
        files: Collection[tuple[Path, int]],
    ) -> None:
        self.held = held
        self.spec = spec
        self.unit = unit
        self.folder = folder
        self._files = files
        self._lines = contextlib.AsyncExitStack()
        self._monitor: Monitor | None = None
        self._sidecar: control.Connected | None = None

    async def start(self, supervisor: Supervisor) -> None:
        """Have it restored.

        Raises:
            LaunchError: It does not come up; nothing is left.
        """
        unit = unit_spec(self.unit, self.spec, self.folder, self.held)
        async with self._lines:
            qemu = await self._lines.enter_async_context(started(supervisor, self.folder, unit))
            line = restored(self.folder, qemu, self.held, self.spec)
            sidecar = await self._lines.enter_async_context(line)
            await qemu.execute("cont")
            await control.rehearse(sidecar)
            await qemu.execute("stop")
            self._monitor, self._sidecar = qemu, sidecar
            self._lines = self._lines.pop_all()

    @contextlib.asynccontextmanager
    async def given(self) -> AsyncIterator[tuple[Monitor, control.Connected]]:
        """The lines to it, for as long as it takes to make a guest of it.

        Raises:
            LaunchError: It was not to be made one; nothing is left.
        """
        assert self._monitor and self._sidecar, "it was started"
        async with self._lines:
            if (await self._monitor.execute("query-status")).get("running"):
                raise LaunchError("it runs already")
            yield self._monitor, self._sidecar

    def check_files(self) -> None:
        """Return if what it reads is what the store has under that name, and verifies.

        Raises:
            LaunchError: It has been put together anew since.
        """
        if any(path.stat().st_ino != inode for path, inode in self._files):
            raise LaunchError("a file of its image was replaced")

    async def hang_up(self) -> None:
        """Let go of the lines to it."""
        with contextlib.suppress(SappersError, OSError):
            await self._lines.aclose()


class Spares:
    """The spares of this host: at most one for each template.

    Args:
        root: `STATE_DIR/spares`.
        units: Told of what is started and ended here.
        spec_of: The command line's inputs of a guest of this image and memory, of nobody yet.
        is_quiet: Whether nothing is being started.
        is_held: Whether a template is still the one that guests start from.
    """

    def __init__(
        self,
        *,
        root: Path,
        images: ImageStore,
        supervisor: Supervisor,
        units: GuestUnits,
        spec_of: Callable[[Manifest, int], command.GuestSpec],
        is_quiet: Callable[[], bool],
        is_held: Callable[[Held], bool],
    ) -> None:
        self._root = root
        self._images = images
        self._supervisor = supervisor
        self._units = units
        self._spec_of = spec_of
        self._is_quiet = is_quiet
        self._is_held = is_held
        self._ready: dict[str, Spare] = {}
        self._making: dict[str, asyncio.Task[None]] = {}
        self._used_at: dict[str, float] = {}
        self._busy_at = 0.0
        self._own: set[str] = set()  # units that are no guest's, and not to be ended
        self._begun = False

    @property
    def ready(self) -> Collection[str]:
        """The units of those that wait."""
        return {spare.unit for spare in self._ready.values()}

    @property
    def is_making(self) -> bool:
        """Whether one is being made, or waited for until all is quiet."""
        return bool(self._making)

    def take(self, held: Held, guest: command.GuestSpec, *, linked: bool) -> Spare | None:
        """The spare for this guest, which nobody else gets; None where there is none that fits."""
        spare = self._ready.get(held.template.key)
        if spare is None or spare.held is not held or not fits(spare.spec, guest, linked=linked):
            return None
        return self._ready.pop(held.template.key)

    def give(self, spare: Spare) -> None:
        """What was taken is a guest by now, which has a record of its own."""
        self._own.discard(spare.unit)

    def used(
        self, held: Held, manifest: Manifest, guest: command.GuestSpec, *, linked: bool
    ) -> None:
        """A guest was started from a template: have a spare for the next, once all is quiet."""
        key = held.template.key
        if not fits(self._spec_of(manifest, held.template.memory_mib), guest, linked=linked):
            return
        self._used_at[key] = self._busy_at = time.monotonic()
        if key not in self._making:
            task = asyncio.create_task(self._make_when_quiet(held, manifest), name=f"spare {key}")
            self._making[key] = task
            task.add_done_callback(lambda _: self._making.pop(key, None))

    async def look_after(self, units: Mapping[str, UnitStatus], of_guests: Collection[str]) -> None:
        """End those that are not to be kept, and what an agent left that died.

        Args:
            units: All of guests and spares, as they are at this moment.
            of_guests: Names of units that guests run in.
        """
        ended = [spare for spare in self._ready.values() if not self._stays(spare, units)]
        strays = {name for name in units if name.startswith(SPARE_PREFIX)}
        strays -= self._own | set(of_guests)
        for spare in ended:
            del self._ready[spare.held.template.key]
        for spare in ended:
            log.info("spare ended", template=spare.held.template.key[:16])
            await self.end(spare)
        for name in strays:
            await self._supervisor.stop(name, 0.0)
            self._units.changed()
        if not self._begun:
            self._begun = True
            await asyncio.to_thread(self._sweep)

    async def close(self) -> None:
        """End all of them: whoever comes after could not speak to them."""
        for task in (tasks := list(self._making.values())):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._ready:
            _, spare = self._ready.popitem()
            with contextlib.suppress(SappersError):
                await self.end(spare)

    def _stays(self, spare: Spare, units: Mapping[str, UnitStatus]) -> bool:
        unit = units.get(spare.unit)
        lives = unit is not None and unit.running
        return lives and self._is_held(spare.held) and keeps_spare(self._outlook(spare.held))

    def _outlook(self, held: Held) -> Outlook:
        now = time.monotonic()
        return Outlook(
            unused_seconds=now - self._used_at[held.template.key],
            quiet_seconds=now - self._busy_at,
            available_mib=available_memory_mib(),
            memory_mib=held.template.memory_mib,
        )

    async def _make_when_quiet(self, held: Held, manifest: Manifest) -> None:
        while True:
            if not self._is_quiet():
                self._busy_at = time.monotonic()
            outlook = self._outlook(held)
            if held.template.key in self._ready or not self._is_held(held):
                return
            if not keeps_spare(outlook):
                return
            if makes_spare(outlook):
                break
            await asyncio.sleep(_POLL_SECONDS)
        try:
            spare = self._ready[held.template.key] = await self._make(held, manifest)
        except (SappersError, OSError) as error:
            log.warning("no spare", template=held.template.key[:16], reason=str(error))
        else:
            log.info("spare made", template=held.template.key[:16], unit=spare.unit)

    async def _make(self, held: Held, manifest: Manifest) -> Spare:
        name = f"spare-{secrets.token_hex(4)}"
        spec = self._spec_of(manifest, held.template.memory_mib)
        user_id = None if spec.user_id is None else user_id_for(name)
        spec = msgspec.structs.replace(spec, allocation_id=name, user_id=user_id, mac=mac_for(name))
        folder = GuestFolder(self._root, name)

        def prepare() -> list[tuple[Path, int]]:
            with self._images.holding():
                files = verified_files(self._images, held.template.image, clone=True)
                folder.prepare(Record(name, 1.0), files, user_id)
                # Another file system has copies, which nobody verifies later.
                if not all((folder.run / one).samefile(path) for one, path in files.items()):
                    raise LaunchError("its files are no links to the store's")
                return [(path, path.stat().st_ino) for path in files.values()]

        unit = SPARE_PREFIX + name.removeprefix("spare-")
        self._own.add(unit)
        try:
            files = await asyncio.to_thread(prepare)
            spare = Spare(held, spec, unit, folder, files)
            await spare.start(self._supervisor)
        except BaseException:
            await self._supervisor.stop(unit, 0.0)
            await asyncio.to_thread(shutil.rmtree, folder.path, ignore_errors=True)
            self._own.discard(unit)
            raise
        self._units.changed()
        return spare

    async def end(self, spare: Spare) -> None:
        """Leave nothing of one that is nobody's, or did not become a guest."""
        try:
            await spare.hang_up()
            await self._supervisor.stop(spare.unit, 0.0)
        finally:
            await asyncio.to_thread(shutil.rmtree, spare.folder.path, ignore_errors=True)
            self._own.discard(spare.unit)
            self._units.changed()

    def _sweep(self) -> None:
        """Remove what an agent left that died; its machines have been ended."""
        for folder in self._root.glob("*"):
            if SPARE_PREFIX + folder.name.removeprefix("spare-") not in self._own:
                shutil.rmtree(folder, ignore_errors=True)
