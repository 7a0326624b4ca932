"""From nothing to a guest that is well; beside it, bare QEMU with the same image."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.answers import first_answers
from benchmarks.bare_guest import BareGuests
from benchmarks.figures import Row, Section, spread
from benchmarks.hub_ear import HubEar
from benchmarks.processes import Process, guests_of
from benchmarks.rig import REST_SECONDS, Rig
from sappers.images.store import FolderImageStore
from sappers.launchers.accelerator import detect_accelerator
from sappers.model.view import ClusterView
from sappers.security.signing import load_or_create_signing_key

RUNS = 5
DEADLINE_SECONDS = 120.0
_POLL_SECONDS = 0.02
_GUEST_PORT, _HOST_PORT = 8080, 8080


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
    with HubEar(rig, servers) as ear, _bare_guests(rig) as by_hand:
        for number in range(RUNS):
            rig.say(f"guest {number + 1} of {RUNS}")
            started, pss = _ours(rig, view, ear, f"bench-{number}")
            ours.append(started)
            memory.append(pss)
            time.sleep(REST_SECONDS)
            bare += by_hand.cold(1)
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
    asked = ("--image", "hello", "--port", str(_GUEST_PORT), "--cold")
    with rig.deploying("run", name, *asked) as process:
        address, guest = _await_guest(groups)
        executed = guest.started_at
        answered = _await_answer(address, _HOST_PORT)
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
            for _, guest in guests_of(group):
                return address, guest
        time.sleep(_POLL_SECONDS)
    raise RuntimeError("no guest started")


def _await_answer(address: str, port: int) -> float:
    """When the application answered, by `time.monotonic`."""
    answers = asyncio.run(first_answers({"guest": (address, port)}))
    if not answers:
        raise RuntimeError(f"{address} port {port} did not answer")
    return answers["guest"]


@contextmanager
def _bare_guests(rig: Rig) -> Iterator[BareGuests]:
    key = load_or_create_signing_key(rig.home.image_signing_key)
    store = FolderImageStore(rig.home.images, lambda: (key.public,))
    with tempfile.TemporaryDirectory(prefix="sappers-bare-") as folder:
        yield BareGuests(store, store.named()["hello"], Path(folder))
