"""How fast guests start, cold and from a checkpoint, one and ten at a time, beside bare QEMU."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks.bare_guest import BareGuests
from benchmarks.figures import Row, Section, at_least, at_most, figure, spread
from benchmarks.guest_batch import Batch, Start, await_spare, batch, end_spares
from benchmarks.rig import Rig
from sappers.api.wire import WantedImage
from sappers.images.store import FolderImageStore
from sappers.launchers.accelerator import detect_accelerator
from sappers.model.image import Manifest
from sappers.security.signing import load_or_create_signing_key

RUNS = 7
# For each of these so many clones: they are soon there, and what disturbs them is large beside it.
CLONES_EACH = 3
AT_ONCE = 10
# Fewer unikernels: an idle one that is emulated takes a tenth of a processor.
IDLE_GUESTS = {"microvm": 20, "nanos": 10}
IDLE_SECONDS = 10.0
WARM_SECONDS = 300.0
FASTER_MIN = 10.0
OVERHEAD_MAX = 1.10
IDLE_MIB_MAX = 1024.0
_HOWS = ("cold", "clone without a spare", "clone")


class GuestSpeed:
    """One image on the rig's only host, and the same image started by hand beside it."""

    def __init__(self, rig: Rig, name: str, kind: str) -> None:
        self._rig = rig
        self._what = f"{name} ({kind})"
        key = load_or_create_signing_key(rig.home.image_signing_key)
        store = FolderImageStore(rig.home.images, lambda: (key.public,))
        digest = store.named()[name]
        self._manifest = _found(store.manifest(digest))
        self._image = WantedImage(name, digest)
        folder = Path(rig.home.data) / f"bare-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        # What QEMU by hand is compared with needs no cluster, but a boot that it knows.
        self._bare = BareGuests(store, digest, folder) if kind == "microvm" else None

    def measure(self) -> Iterator[Section]:
        """All of it; the image is pushed and warmed first."""
        self._rig.say(f"{self._what}: pushing, making the checkpoint")
        self._rig.deploy("image", "push", self._image.name)
        with self._rig.client() as client:
            path = f"/v1/images/{self._image.digest}/warm"
            client.call("POST", path, timeout_seconds=WARM_SECONDS)
        yield self._one_by_one()
        yield self._at_once()
        yield self._idle()

    def _one_by_one(self) -> Section:
        ours: dict[str, list[Start]] = {name: [] for name in _HOWS}
        bare: dict[str, list[float]] = {"cold": [], "clone": []}
        for number in range(RUNS):
            self._rig.say(f"{self._what}: one at a time, {number + 1} of {RUNS}")
            ours["cold"].append(self._one(cold=True))
            end_spares(self._rig)
            ours["clone without a spare"].append(self._one(cold=False))
            for _ in range(CLONES_EACH):
                await_spare(self._rig)
                ours["clone"].append(self._one(cold=False, spare=True))
                await_spare(self._rig)  # making it would disturb what comes next
                if self._bare is not None:
                    bare["clone"] += self._bare.cloned(1)
            if self._bare is not None:
                bare["cold"] += self._bare.cold(1)
        own = {name: [one.own_seconds for one in starts] for name, starts in ours.items()}
        rows = [
            *_rows("cold", own["cold"], bare["cold"]),
            *_rows("clone", own["clone"], bare["clone"]),
        ]
        without = own["clone without a spare"]
        rows.append(Row("clone without a spare: ours", spread(without)))
        if bare["clone"]:
            ratio = median(without) / median(bare["clone"])
            rows.append(
                Row("clone without a spare: ours beside bare, medians", f"{ratio:.2f} times")
            )
        faster = median(own["cold"]) / median(own["clone"])
        rows.append(at_least("a clone is so much faster", faster, FASTER_MIN, "times"))
        rows += [
            Row(f"{name}: from asking the cluster", spread(one.asked_seconds for one in starts))
            for name, starts in ours.items()
        ]
        bars = [figure(f"{name}, ours", median(own[name]), "s", 2) for name in _HOWS]
        if bare["cold"]:
            bars.insert(1, figure("cold, bare QEMU", median(bare["cold"]), "s", 2))
            bars.append(figure("clone, bare QEMU", median(bare["clone"]), "s", 2))
        notes = (
            f"QEMU's exec to the first HTTP answer, {RUNS} runs each, in turn, with {CLONES_EACH} "
            "clones in each turn: min / median / max. "
            "From asking the cluster: the API call that asks for the workload begins; consensus, "
            "placement and the member's loop are in it.",
            "A clone was a spare that its member had ready, as it makes one when all is quiet "
            "after a clone: restored and rehearsed, its QEMU's exec long ago. So it is timed from "
            "the begin of the member's `launch`, bare QEMU from its exec. Without a spare: from "
            "QEMU's exec.",
            "It is asked over a new connection every 0.25 s, sooner where one is refused.",
            "Bare: the same image, QEMU options and QMP steps, by hand, without a cluster.",
            f"Accelerator: {detect_accelerator().kind}.",
        )
        return Section(f"Guests one at a time: {self._what}", rows, notes, bars)

    def _at_once(self) -> Section:
        rows: list[Row] = []
        for name, is_cold in (("cold", True), ("clone", False)):
            self._rig.say(f"{self._what}: {AT_ONCE} at once, {name}")
            ours = self._batch(AT_ONCE, cold=is_cold)
            rows += [
                at_least(f"{name}: came up", AT_ONCE - ours.silent, AT_ONCE, "guests", 0),
                Row(f"{name}: each", spread(one.own_seconds for one in ours.starts)),
                figure(
                    f"{name}: from asking for the first to the last answer",
                    ours.all_seconds,
                    "s",
                    2,
                ),
            ]
            if self._bare is not None:
                bare = self._bare.cold(AT_ONCE) if is_cold else self._bare.cloned(AT_ONCE)
                rows += [
                    Row(f"{name}, bare QEMU: came up", f"{len(bare)} guests"),
                    Row(f"{name}, bare QEMU: each", spread(bare)),
                ]
        notes = (
            "Ours boot as many at a time as there are cores, the others wait their turn before "
            "exec; bare QEMUs are all started at the same moment. One of our clones was a spare, "
            "and is timed from `launch`.",
        )
        return Section(f"{AT_ONCE} guests at once: {self._what}", rows, notes)

    def _idle(self) -> Section:
        count = IDLE_GUESTS[self._manifest.kind]
        self._rig.say(f"{self._what}: {count} idle guests")
        before = _available_mib()
        with batch(
            self._rig, self._image, self._manifest.guest_port or 0, count, cold=False
        ) as idle:
            spare = await_spare(self._rig)
            time.sleep(IDLE_SECONDS)
            each = [process.pss_mib for process in idle.processes]
            beside, spare_began = spare.pss_mib, spare.cpu_seconds
            taken = before - _available_mib()
            used = [process.cpu_seconds for process in idle.processes]
            time.sleep(IDLE_SECONDS)
            loads = [
                100 * (process.cpu_seconds - before_it) / IDLE_SECONDS
                for process, before_it in zip(idle.processes, used, strict=True)
            ]
            spare_load = 100 * (spare.cpu_seconds - spare_began) / IDLE_SECONDS
        most = IDLE_MIB_MAX * count / IDLE_GUESTS["microvm"]
        rows = [
            at_most(
                f"{len(each)} idle guests and a spare, proportional",
                sum(each) + beside,
                most,
                "MiB",
                0,
            ),
            Row("each guest", spread(each, "MiB", 0)),
            figure("the spare", beside, "MiB", 0),
            figure("what the machine had less available meanwhile", taken, "MiB", 0),
            Row("processor of each guest", spread(loads, "%", 1)),
            figure("processor of the spare", spare_load, "%", 1),
        ]
        notes = (
            f"PSS of their QEMUs ({self._manifest.memory_mib} MiB guests, from the template), "
            f"{IDLE_SECONDS:.0f} s after the last one answered and the member had made "
            "its next spare.",
        )
        return Section(f"Memory of idle guests: {self._what}", rows, notes)

    def _one(self, *, cold: bool, spare: bool = False) -> Start:
        (start,) = self._batch(1, cold=cold).starts
        if start.was_spare != spare:
            raise RuntimeError(f"a guest was a spare: {start.was_spare}, and should be: {spare}")
        return start

    def _batch(self, count: int, *, cold: bool) -> Batch:
        with batch(self._rig, self._image, self._manifest.guest_port or 0, count, cold=cold) as one:
            others = [start for start in one.starts if start.cloned == cold]
            if others or not one.starts:
                wanted = "cold" if cold else "from the template"
                raise RuntimeError(
                    f"{len(others)} of {count} guests did not start {wanted}, {one.silent} never"
                )
            return one


def _rows(name: str, ours: Sequence[float], bare: Sequence[float]) -> list[Row]:
    rows = [Row(f"{name}: ours", spread(ours))]
    if bare:
        ratio = median(ours) / median(bare)
        rows += [
            Row(f"{name}: bare QEMU", spread(bare)),
            at_most(f"{name}: ours beside bare, medians", ratio, OVERHEAD_MAX, "times", 2),
        ]
    return rows


def _found(manifest: Manifest | None) -> Manifest:
    assert manifest is not None
    return manifest


def _available_mib() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    raise LookupError("MemAvailable")
