"""From nothing to a guest that is well; beside it, bare QEMU with the same image."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.figures import Row, Section, spread
from benchmarks.hub_ear import HubEar
from benchmarks.processes import Process, guests_of
from benchmarks.rig import REST_SECONDS, Rig
from sappers.images.store import FolderImageStore
from sappers.launchers import command
from sappers.launchers.accelerator import detect_accelerator
from sappers.launchers.control import configuration
from sappers.model.view import ClusterView

RUNS = 5
DEADLINE_SECONDS = 120.0
_POLL_SECONDS = 0.02
_GUEST_PORT, _HOST_PORT = 8080, 8080
_BARE_PORT = 18080


@dataclass(frozen=True)
class Started:
    """Seconds of one start."""

    run_to_healthy: float
    exec_to_answer: float
    exec_to_healthy: float


def measure(rig: Rig) -> list[Section]:
    """Starts hello time after time, ours and bare in turn, so that both see the same machine."""
    with rig.client() as client:
        view = rig.await_whole(client)
    ours: list[Started] = []
    bare: list[float] = []
    memory: list[float] = []
    servers = [one.member for one in view.members if one.hub == "running"]
    with HubEar(rig, servers) as ear:
        for number in range(RUNS):
            rig.say(f"guest {number + 1} of {RUNS}")
            started, pss = _ours(rig, view, ear, f"bench-{number}")
            ours.append(started)
            memory.append(pss)
            bare.append(_bare(rig))
    answers = [one.exec_to_answer for one in ours]
    rows = [
        Row("`run` to healthy", spread(one.run_to_healthy for one in ours)),
        Row("QEMU's exec to the first healthy push", spread(one.exec_to_healthy for one in ours)),
        Row("QEMU's exec to the first HTTP answer", spread(answers)),
        Row("bare QEMU's exec to the first HTTP answer", spread(bare)),
        Row("ours beside bare, fastest runs", f"{min(answers) / min(bare):.2f} times"),
        Row("memory of a 128 MiB guest (PSS)", spread(memory, "MiB", 0)),
    ]
    notes = (
        f"{RUNS} cold starts of hello, one after the other: min / median / max.",
        "Bare: the same kernel, initrd and QEMU options, started by hand, without a cluster.",
        f"Accelerator: {detect_accelerator().kind}.",
    )
    return [Section("A guest's start", rows, notes)]


def _ours(rig: Rig, view: ClusterView, ear: HubEar, name: str) -> tuple[Started, float]:
    groups = {one.member.address: rig.lab.control_group(one.member.name) for one in view.members}
    time.sleep(REST_SECONDS)
    began = time.monotonic()
    with rig.deploying("run", name, "--image", "hello", "--port", str(_GUEST_PORT)) as process:
        address, guest = _await_guest(groups)
        executed = guest.started_at
        _await_answer(address, _HOST_PORT)
        answered = time.monotonic()
        process.communicate(timeout=DEADLINE_SECONDS)
        ended = time.monotonic()
        if process.returncode:
            raise RuntimeError(f"{name} did not become healthy")
    healthy = [at for allocation, at in ear.healthy.items() if allocation.startswith(f"{name}-")]
    pss = guest.pss_mib
    rig.deploy("stop", name)
    return Started(ended - began, answered - executed, min(healthy) - executed), pss


def _await_guest(groups: dict[str, Path]) -> tuple[str, Process]:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        for address, group in groups.items():
            for guest in guests_of(group):
                return address, guest
        time.sleep(_POLL_SECONDS)
    raise RuntimeError("no guest started")


def _await_answer(address: str, port: int) -> None:
    """Until the application answers; QEMU accepts before it does, so each try is a new one."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((address, port), 0.2) as connection:
                connection.settimeout(0.2)
                connection.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                if connection.recv(12) == b"HTTP/1.1 200":
                    return
        except OSError:
            pass
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"{address} port {port} did not answer")


# -- the peer --------------------------------------------------------------------------------------


def _bare(rig: Rig) -> float:
    """QEMU by hand. The guest waits to be told who it is, so we tell it at once."""
    time.sleep(REST_SECONDS)
    store = FolderImageStore(rig.home.images)
    manifest = store.manifest(store.named()["hello"])
    assert manifest is not None
    spec = command.GuestSpec(
        allocation_id="bare",
        memory_mib=manifest.memory_mib,
        accelerator=detect_accelerator(),
        address="127.0.0.1",
        guest_port=_GUEST_PORT,
        host_port=_BARE_PORT,
        tsc_khz=command.host_tsc_khz(Path("/proc/cpuinfo").read_text()),
    )
    with tempfile.TemporaryDirectory(prefix="sappers-bare-") as name:
        folder = Path(name)
        (folder / command.KERNEL).symlink_to(store.blob_path(manifest.kernel.digest))
        (folder / command.INITRD).symlink_to(store.blob_path(manifest.initrd.digest))
        for suffix in ("in", "out"):
            os.mkfifo(folder / f"{command.EVENTS}.{suffix}")
        events = os.open(folder / f"{command.EVENTS}.out", os.O_RDWR)
        try:
            with _qemu(command.qemu_command(spec), folder) as began:
                _configure(folder / command.CONTROL_SOCKET)
                _await_answer(spec.address, _BARE_PORT)
                return time.monotonic() - began
        finally:
            os.close(events)


@contextmanager
def _qemu(argv: tuple[str, ...], folder: Path) -> Iterator[float]:
    began = time.monotonic()
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield began
    finally:
        process.kill()
        process.wait()


def _configure(path: Path) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    message = configuration("bare", (), "", "", "", 1.0, time.time())
    with socket.socket(socket.AF_UNIX) as control:
        while True:
            try:
                control.connect(str(path))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
        control.settimeout(DEADLINE_SECONDS)
        with control.makefile("rwb") as lines:
            lines.readline()  # it says that it waits
            lines.write(msgspec.json.encode(message) + b"\n")
            lines.flush()
            while b'"ok"' not in lines.readline():
                pass
