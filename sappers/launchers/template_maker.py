"""Makes a template: boots the image once, cut off from everything, and saves it as it waits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from pathlib import Path

from sappers.errors import LaunchError, SappersError, TemplateError
from sappers.launchers import command, control
from sappers.launchers.command import GuestSpec
from sappers.launchers.guest_folder import GuestFolder, Record
from sappers.launchers.image_files import verified_files
from sappers.launchers.qmp import first_monitor
from sappers.launchers.templates import TemplateFolder, new_memory
from sappers.ports import ImageStore, Supervisor, UnitSpec

UNIT_PREFIX = "sappers-template-"
_MAKING = ".making"
_BOOT_SECONDS = 120.0
_QUIT_SECONDS = 5.0
_POLL_SECONDS = 0.05
_SPARE_MIB = 256
# What a kernel puts off for a second or two is done before the save, and not again in every clone.
SETTLE_SECONDS = 2.5


class TemplateMaker:
    """Makes templates, one at a time.

    Args:
        root: `STATE_DIR/templates`.
        templates: Where they go.
    """

    def __init__(
        self, root: Path, templates: TemplateFolder, images: ImageStore, supervisor: Supervisor
    ) -> None:
        self._root = root
        self._templates = templates
        self._images = images
        self._supervisor = supervisor
        self._alone = asyncio.Lock()

    async def make(self, key: str, image: str, spec: GuestSpec) -> None:
        """Make the template of this key; nothing to do when there is one.

        Raises:
            TemplateError: It cannot be made; nothing is left of the attempt.
        """
        async with self._alone:
            if self._templates.has(key):
                return
            self._check_room(spec)
            folder, unit = GuestFolder(self._root / _MAKING, key[:16]), f"{UNIT_PREFIX}{key[:16]}"
            memory = new_memory(spec.memory_mib)
            try:
                await self._boot(folder, unit, image, spec, memory)
                device = await self._save(folder, unit)
                await self._end(unit)  # until then the memory cannot be sealed
                now = time.monotonic()
                await asyncio.to_thread(self._templates.add, key, image, memory, device, now)
            except (SappersError, OSError) as error:
                tail = folder.traces().output.strip()[-300:]
                why = f"no template can be made: {error}" + (f": {tail}" if tail else "")
                raise TemplateError(why) from error
            finally:
                os.close(memory)
                await self._supervisor.stop(unit, 0.0)
                await asyncio.to_thread(shutil.rmtree, folder.path, ignore_errors=True)

    async def sweep(self) -> None:
        """End and remove what an agent left that died while it made one."""
        for unit in await self._supervisor.list(UNIT_PREFIX):
            await self._supervisor.stop(unit.name, 0.0)
        await asyncio.to_thread(shutil.rmtree, self._root / _MAKING, ignore_errors=True)
        await asyncio.to_thread(self._templates.clear_unfinished)

    def _check_room(self, spec: GuestSpec) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        limit = command.memory_limit_mib(spec.memory_mib, spec.accelerator)
        if (free := available_memory_mib()) < limit + _SPARE_MIB:
            raise TemplateError(_no_room(limit, "memory", free))
        disk = shutil.disk_usage(self._root).free >> 20
        if disk < spec.memory_mib + _SPARE_MIB:
            raise TemplateError(_no_room(spec.memory_mib, "disk", disk))

    async def _boot(
        self, folder: GuestFolder, unit: str, image: str, spec: GuestSpec, memory: int
    ) -> None:
        def prepare() -> None:
            with self._images.holding():
                files = verified_files(self._images, image)
                folder.prepare(Record("template", 1.0), files, spec.user_id)

        await asyncio.to_thread(prepare)
        await self._supervisor.start(
            UnitSpec(
                name=unit,
                command=command.template_command(spec),
                working_directory=str(folder.run),
                memory_max_mib=command.memory_limit_mib(spec.memory_mib, spec.accelerator),
                description=f"Sappers template of image {image[:12]}",
                standard_input=descriptor_path(memory),
                device=command.device_of(spec.accelerator),
            )
        )

    async def _save(self, folder: GuestFolder, unit: str) -> bytes:
        """Wait until the guest holds still and save it; the machine's state without its memory."""
        state = os.memfd_create("sappers-device", os.MFD_CLOEXEC)
        try:
            async with first_monitor(folder, lambda: self._runs(unit)) as monitor:
                async with control.connection(folder) as connected:
                    await control.prepare(connected, _BOOT_SECONDS)
                    await asyncio.sleep(SETTLE_SECONDS)
                    await monitor.save(state)
                with contextlib.suppress(LaunchError):
                    await monitor.execute("quit")
            return os.pread(state, os.fstat(state).st_size, 0)
        finally:
            os.close(state)

    async def _end(self, unit: str) -> None:
        deadline = time.monotonic() + _QUIT_SECONDS
        while await self._runs(unit) and time.monotonic() < deadline:  # noqa: ASYNC110 - a process
            await asyncio.sleep(_POLL_SECONDS)
        await self._supervisor.stop(unit, 0.0)

    async def _runs(self, unit: str) -> bool:
        status = await self._supervisor.status(unit)
        return status is not None and status.running


def _no_room(needed_mib: int, what: str, free_mib: int) -> str:
    return (
        f"a template takes {needed_mib} MiB of {what} and leaves {_SPARE_MIB} free, "
        f"but only {free_mib} are"
    )


def descriptor_path(descriptor: int) -> str:
    """Where a supervisor finds an open file of ours."""
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def available_memory_mib() -> int:
    """Memory that this host could give away."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    return 0
