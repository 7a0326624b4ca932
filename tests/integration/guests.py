"""A launcher on this machine with a real hub on loopback, for tests with real guests."""

from __future__ import annotations

import asyncio
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec

import sappers
from sappers.agent.clock import SystemClock
from sappers.agent.hub.refusals import Refusals
from sappers.images.definition import load_definition
from sappers.images.microvm import MicrovmBuilder
from sappers.images.store import FolderImageStore
from sappers.launchers.accelerator import detect_accelerator
from sappers.launchers.qemu import QemuLauncher
from sappers.model import subjects
from sappers.model.allocation import Allocation
from sappers.model.guest_scope import GuestScope
from sappers.model.image import Manifest
from sappers.model.workload import ImageReference
from sappers.ports import Supervisor
from sappers.supervision import choose_supervisor
from tests.image_stores import KEY, make_store
from tests.integration.hubs import Hub
from tests.loopback import free_port
from tests.waiting import eventually

PROJECT = Path(sappers.__file__).parents[1]
BOOT_SECONDS = 200.0


def image_cache() -> Path:
    """Where packages, kernels and roots stay from one run to the next."""
    own = os.environ.get("SAPPERS_TEST_CACHE")
    return Path(own) if own else Path.home() / ".cache" / "sappers" / "images"


def build_image(store: FolderImageStore, name: str, folder: Path | None = None) -> str:
    folder = folder or PROJECT / "unikernels"
    builder = MicrovmBuilder(store, image_cache(), PROJECT / "requirements" / "agent.lock", KEY)
    digest, _ = builder.build(name, load_definition(folder, name), folder / name, lambda _: None)
    return digest


def link_port(allocation_id: str) -> int:
    """Each guest here is linked to `db`, at a port of its own."""
    return 22_000 + zlib.crc32(allocation_id.encode()) % 10_000


def scope_by_name(allocation_id: str) -> GuestScope:
    """As the leader says it, who wants all guests."""
    return GuestScope(allocation_id, allocation_id.rpartition("-")[0])


class GuestHost:
    """One host: an image store, a hub of one server, a launcher, and what guests pushed."""

    def __init__(self, folder: Path, store: FolderImageStore | None = None) -> None:
        self.folder = folder
        self.store = store or make_store(folder / "images")
        self.supervisor: Supervisor = choose_supervisor(folder / "units")
        self.hub = Hub(folder / "hub-members", {"n1": "127.0.0.1"})
        self.hub_members = [self.hub.members["n1"]]
        self.pushes: dict[str, list[dict]] = {}
        self.messages: list[str] = []
        self.refusals = Refusals(SystemClock())
        self.scope_of: Callable[[str], GuestScope | None] = scope_by_name
        self._launchers: list[QemuLauncher] = []
        self.launcher = self.make_launcher()

    def make_launcher(self, **more: float) -> QemuLauncher:
        """Another agent's; that of before is left as it is until the end."""
        launcher = QemuLauncher(
            folder=self.folder / "guests",
            templates=self.folder / "templates",
            spares=self.folder / "spares",
            images=self.store,
            supervisor=self.supervisor,
            hub=lambda: self.hub_members,
            ca=self.hub.identities["n1"].ca,
            credentials=self.hub.credentials,
            scope_of=lambda allocation_id: self.scope_of(allocation_id),
            links_of=lambda allocation_id: {"db": link_port(allocation_id)},
            accelerator=detect_accelerator(),
            address="127.0.0.1",
            clock=SystemClock(),
            refusals=self.refusals,
            **more,
        )
        self._launchers.append(launcher)
        return launcher

    async def start(self) -> None:
        await self.hub.run("n1")
        client = await self.hub.client("n1")
        await client.subscribe("sappers.guest.>", self._received)

    async def _received(self, subject: str, payload: bytes) -> None:
        self.messages.append(subject)
        if subject.endswith(".health"):
            push = msgspec.json.decode(payload) | {"at": time.monotonic()}
            self.pushes.setdefault(subjects.allocation_of(subject), []).append(push)

    async def stop(self) -> None:
        for launcher in self._launchers:
            await launcher.close()
        for allocation_id in await self.launcher.observe():
            await self.launcher.stop(allocation_id, 0.0)
        await self.hub.down()

    def allocation(self, name: str, digest: str, number: int = 0) -> Allocation:
        manifest = self.manifest(digest)
        return Allocation(
            id=f"{name}-{number:08x}",
            workload=name,
            revision=1,
            image=ImageReference(name, digest),
            memory_mib=manifest.memory_mib,
            member_id="n1",
            placed_term=1,
            guest_port=manifest.guest_port,
            host_port=free_port() if manifest.guest_port else None,
        )

    def manifest(self, digest: str) -> Manifest:
        manifest = self.store.manifest(digest)
        assert manifest is not None
        return manifest

    async def launch(self, allocation: Allocation) -> None:
        await self.launcher.launch(allocation, self.manifest(allocation.image.digest))

    async def spare(self) -> str:
        """The unit of the only spare, once there is one."""
        await eventually(lambda: self.launcher.spares.ready, BOOT_SECONDS)
        (unit,) = self.launcher.spares.ready
        return unit

    async def healthy(self, allocation: Allocation, since: float = 0.0) -> dict:
        """The first push since then that says it is well."""
        found: list[dict] = []

        def look() -> bool:
            pushes = self.pushes.get(allocation.id, [])
            found[:] = [push for push in pushes if push["healthy"] and push["at"] > since]
            return bool(found)

        try:
            await eventually(look, BOOT_SECONDS)
        except TimeoutError:
            log = await self.launcher.serial_log(allocation.id, 5000)
            raise AssertionError(f"no push of {allocation.id}; it printed:\n{log}") from None
        return found[0]

    async def ended(self, allocation: Allocation) -> str:
        """Why it ended, once it has."""
        reason = ""

        async def look() -> bool:
            nonlocal reason
            guest = (await self.launcher.observe())[allocation.id]
            reason = guest.reason
            return not guest.running

        await eventually(look, BOOT_SECONDS)
        return reason


def cold_guest(host: GuestHost, name: str, digest: str, number: int = 0) -> Allocation:
    """One that boots, and leaves no template behind."""
    return msgspec.structs.replace(host.allocation(name, digest, number), cold=True)


async def get(port: int, path: str = "/", seconds: float = BOOT_SECONDS) -> str:
    """What the guest answers; tried with new connections, for early ones stall."""
    answer = ""

    async def attempt() -> bool:
        nonlocal answer
        try:
            async with asyncio.timeout(5.0):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                answer = (await reader.read()).decode()
                writer.close()
        except (OSError, TimeoutError):
            return False
        return bool(answer)

    await eventually(attempt, seconds)
    return answer
