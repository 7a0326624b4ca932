"""The peer: guests of the same image and the same QEMU options, started by hand, no cluster.

Like any guest of ours they wait to be told who they are; they are told at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.answers import first_answers
from benchmarks.qmp import Qmp, connect
from sappers.images.store import FolderImageStore
from sappers.launchers import command
from sappers.launchers.accelerator import detect_accelerator
from sappers.launchers.control import configuration
from sappers.launchers.guest_identity import CONTROL_SOCKET
from sappers.launchers.template_maker import SETTLE_SECONDS
from sappers.launchers.templates import new_memory
from sappers.model.image import Manifest, MicrovmBoot

_FIRST_PORT = 18300
_STOP_SECONDS = 10.0


class BareGuests:
    """Starts guests of one image, cold or from a checkpoint of its own."""

    def __init__(self, store: FolderImageStore, digest: str, folder: Path) -> None:
        self._manifest = store.assemble(digest)
        self._store = store
        self._folder = folder
        self._memory: int | None = None
        self._device = folder / "device"

    def cold(self, count: int) -> list[float]:
        """Seconds from exec to the first answer, of so many that are started at once."""
        return self._start(count, None)

    def cloned(self, count: int) -> list[float]:
        """The same from a checkpoint, which is made first."""
        if self._memory is None:
            self._memory = self._save_template()
        return self._start(count, self._memory)

    def _start(self, count: int, memory: int | None) -> list[float]:
        began: dict[str, float] = {}
        with ExitStack() as stack:
            folders = {f"bare-{number}": self._guest_folder(stack) for number in range(count)}
            specs = [self._spec(name, number) for number, name in enumerate(folders)]

            def start(spec: command.GuestSpec) -> None:
                name = spec.allocation_id
                folder = folders[name]
                began[name] = time.monotonic()
                if memory is None:
                    stack.enter_context(_qemu(command.qemu_command(spec), folder))
                else:
                    stack.enter_context(_qemu(command.clone_command(spec), folder, memory))
                    self._restore(folder, spec)
                _tell(folder, spec, boots=memory is None)

            places = {spec.allocation_id: (spec.address, spec.host_port or 0) for spec in specs}
            answers = asyncio.run(_start_all(specs, start, places))
        return [at - began[name] for name, at in answers.items()]

    def _restore(self, folder: Path, spec: command.GuestSpec) -> None:
        with self._device.open("rb") as device, Qmp(folder / command.QMP_SOCKET) as qmp:
            _ignore_shared(qmp)
            qmp.execute("getfd", device.fileno(), fdname="device")
            qmp.execute("migrate-incoming", uri="fd:device")
            qmp.await_migration()
            qmp.publish(command.publishing(spec))
            qmp.execute("cont")

    def _save_template(self) -> int:
        spec = self._spec("template", 0)
        memory = new_memory(spec.memory_mib)
        with ExitStack() as stack:
            folder = self._guest_folder(stack)
            stack.enter_context(_qemu(command.template_command(spec), folder, memory))
            with _control(folder) as control:
                control.await_word()
                control.ask({"prepare": True})
            time.sleep(SETTLE_SECONDS)
            qmp = stack.enter_context(Qmp(folder / command.QMP_SOCKET))
            qmp.execute("stop")
            _ignore_shared(qmp)
            with self._device.open("wb") as device:
                qmp.execute("getfd", device.fileno(), fdname="device")
                qmp.execute("migrate", uri="fd:device")
                qmp.await_migration()
        return memory

    def _spec(self, name: str, number: int) -> command.GuestSpec:
        return command.GuestSpec(
            allocation_id=name,
            memory_mib=self._manifest.memory_mib,
            accelerator=detect_accelerator(),
            address="127.0.0.1",
            guest_port=self._manifest.guest_port,
            host_port=_FIRST_PORT + number,
            tsc_khz=command.host_tsc_khz(Path("/proc/cpuinfo").read_text()),
        )

    def _guest_folder(self, stack: ExitStack) -> Path:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._folder)))
        for name, blob in command.boot_files(_boot(self._manifest)).items():
            (folder / name).symlink_to(self._store.blob_path(blob.digest))
        for suffix in ("in", "out"):
            os.mkfifo(folder / f"{command.EVENTS}.{suffix}")
        # Somebody has to listen, or QEMU waits for it.
        events = os.open(folder / f"{command.EVENTS}.out", os.O_RDWR)
        stack.callback(os.close, events)
        return folder


async def _start_all(
    specs: Sequence[command.GuestSpec],
    start: Callable[[command.GuestSpec], None],
    places: Mapping[str, tuple[str, int]],
) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    answers = asyncio.create_task(first_answers(places))
    with ThreadPoolExecutor(len(specs)) as threads:
        told = [loop.run_in_executor(threads, start, spec) for spec in specs]
        for error in await asyncio.gather(*told, return_exceptions=True):
            if isinstance(error, BaseException) and not isinstance(error, TimeoutError):
                raise error
        return await answers  # one that was not to be told in time does not answer either


def _boot(manifest: Manifest) -> MicrovmBoot:
    assert isinstance(manifest.boot, MicrovmBoot)
    return manifest.boot


def _ignore_shared(qmp: Qmp) -> None:
    capability = {"capability": "x-ignore-shared", "state": True}
    qmp.execute("migrate-set-capabilities", capabilities=[capability])


@contextmanager
def _qemu(argv: Sequence[str], folder: Path, memory: int | None = None) -> Iterator[None]:
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            argv,
            cwd=folder,
            stdin=subprocess.DEVNULL if memory is None else memory,
            stdout=output,
            stderr=output,
        )
    try:
        yield
    finally:
        process.kill()
        process.wait(_STOP_SECONDS)


class _Control:
    """The line to the sidecar."""

    def __init__(self, connection: socket.socket) -> None:
        self._lines = connection.makefile("rwb")

    def await_word(self) -> None:
        """Until it says that it waits for its configuration."""
        self._lines.readline()

    def ask(self, message: dict[str, Any]) -> None:
        """Tell it something; until it has confirmed."""
        self._lines.write(json.dumps(message).encode() + b"\n")
        self._lines.flush()
        while b'"ok"' not in (line := self._lines.readline()):
            if not line:
                raise RuntimeError("the guest hung up")


@contextmanager
def _control(folder: Path) -> Iterator[_Control]:
    with connect(folder / CONTROL_SOCKET) as connection:
        yield _Control(connection)


def _tell(folder: Path, spec: command.GuestSpec, *, boots: bool) -> None:
    message = configuration(spec.allocation_id, "bare", (), "", "", "", 1.0, time.time(), {})
    with _control(folder) as control:
        if boots:
            control.await_word()
        control.ask(msgspec.to_builtins(message))
