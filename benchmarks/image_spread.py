"""How fast an image is on all hosts: pushed to one or many of them, beside scp to each."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.arrival import Arrivals
from benchmarks.figures import Row, Section, at_least, at_most, figure, spread
from benchmarks.random_image import NAME, RandomImage, random_image
from benchmarks.rig import REST_SECONDS, Rig
from benchmarks.uplink import sent_bytes, shaped
from sappers.model.image import CHUNK_BYTES
from sappers.provisioner.inventory.inventory import load_inventory

SIZE_BYTES = 200_000_000
UPLINK_MBIT = 100.0
SLOWDOWN_MAX = 1.25
SPEED_MIN = 0.8
OPEN_RUNS = 3
_SCP_TARGET = "/var/tmp/scp.bin"


@dataclass(frozen=True)
class Push:
    """One `image push`.

    Attributes:
        seconds: From exec of the command until the last host had all of the image.
        first_seconds: Until the first one had.
        sent_mb: What this machine sent.
    """

    seconds: float
    first_seconds: float
    sent_mb: float


def measure_open(rig: Rig) -> Section:
    """To one host over a link as fast as this machine: ours and scp in turn."""
    ours, scp = [], []
    for number in range(OPEN_RUNS):
        with random_image(rig, SIZE_BYTES) as image:
            rig.say(f"one host, not shaped, run {number + 1} of {OPEN_RUNS}")
            ours.append(_push(rig, image).seconds)
            scp.append(_scp(rig, image))
    rows = [
        Row("`image push` until whole and checked there", spread(ours)),
        Row("scp, digest not checked", spread(scp)),
        figure("ours, fastest", SIZE_BYTES / min(ours) / 1e6, "MB/s", 0),
        figure("scp, fastest", SIZE_BYTES / min(scp) / 1e6, "MB/s", 0),
        at_least("ours beside scp", min(scp) / min(ours), SPEED_MIN, "times", 2),
    ]
    notes = (
        f"{SIZE_BYTES // 10**6} MB of random bytes, {OPEN_RUNS} runs each: min / median / max; "
        "start and login of both commands included.",
    )
    return Section("An image to one host", rows, notes, bars=rows[2:4])


class Spread:
    """The same image size to more and more hosts over a narrow uplink."""

    def __init__(self) -> None:
        self._pushes: dict[int, Push] = {}
        self._scp: dict[int, float] = {}

    def measure(self, rig: Rig) -> None:
        """To all the hosts that the rig has now."""
        with random_image(rig, SIZE_BYTES) as image, shaped(rig.lab.plan, UPLINK_MBIT):
            rig.say(f"{rig.hosts} hosts, {UPLINK_MBIT:g} Mbit/s: image push")
            self._pushes[rig.hosts] = _push(rig, image)
            rig.say(f"{rig.hosts} hosts, {UPLINK_MBIT:g} Mbit/s: scp")
            self._scp[rig.hosts] = _scp(rig, image)

    def section(self) -> Section:
        """All of it beside each other."""
        ours = [
            figure(f"{_hosts(count)}: `image push`", push.seconds, "s")
            for count, push in self._pushes.items()
        ]
        scp = [
            figure(f"{_hosts(count)}: scp to each", took, "s") for count, took in self._scp.items()
        ]
        sent = [
            Row(
                f"{_hosts(count)}: sent by this machine",
                f"{push.sent_mb:.0f} MB",
                number=push.sent_mb,
                unit="MB",
            )
            for count, push in self._pushes.items()
        ]
        pairs = [row for triple in zip(ours, scp, sent, strict=True) for row in triple]
        notes = (
            f"{SIZE_BYTES // 10**6} MB of random bytes; what this machine sends is shaped to "
            f"{UPLINK_MBIT:g} Mbit/s (`tc … tbf`), what hosts send to each other is not. From exec "
            "of the command until the last host has every chunk, checked. scp: to all at once.",
        )
        bars = [row for pair in zip(ours, scp, strict=True) for row in pair]
        return Section("An image to many hosts", [*pairs, *self._ratios()], notes, bars)

    def _ratios(self) -> list[Row]:
        one, *more = self._pushes
        return [
            row
            for count in more
            for row in (
                at_most(
                    f"{count} hosts beside one",
                    self._pushes[count].seconds / self._pushes[one].seconds,
                    SLOWDOWN_MAX,
                    "times",
                    2,
                ),
                figure(
                    f"{count} hosts beside one, scp",
                    self._scp[count] / self._scp[one],
                    "times",
                    2,
                ),
            )
        ]


def _hosts(count: int) -> str:
    return f"{count} host" if count == 1 else f"{count} hosts"


def _push(rig: Rig, image: RandomImage) -> Push:
    hosts = [host.name for host in load_inventory(rig.lab.inventory).hosts]
    with rig.client() as client:
        rig.await_whole(client)
    time.sleep(REST_SECONDS)
    before = sent_bytes(rig.lab.plan)
    chunks = -(-image.size_bytes // CHUNK_BYTES)
    began = time.monotonic()
    arrivals = Arrivals(rig, hosts, image.digest, chunks)
    rig.deploy("image", "push", NAME)
    ended = arrivals.wait()
    sent_mb = (sent_bytes(rig.lab.plan) - before) / 1e6
    return Push(ended - began, min(arrivals.whole_at.values()) - began, sent_mb)


def _scp(rig: Rig, image: RandomImage) -> float:
    hosts = [host.name for host in load_inventory(rig.lab.inventory).hosts]
    time.sleep(REST_SECONDS)
    began = time.monotonic()
    copies = [_start_scp(rig.lab.ssh_command(host), image) for host in hosts]
    failed = [copy.args for copy in copies if copy.wait()]
    seconds = time.monotonic() - began
    for host in hosts:
        subprocess.run(rig.lab.ssh_command(host, ("rm", "-f", _SCP_TARGET)), check=True)
    if failed:
        raise RuntimeError(f"scp failed: {failed}")
    return seconds


def _start_scp(ssh: Sequence[str], image: RandomImage) -> subprocess.Popen[bytes]:
    """With the options of the ssh command, whose last word is whom to call."""
    target = f"{ssh[-1]}:{_SCP_TARGET}"
    return subprocess.Popen(["scp", "-q", *ssh[1:-1], str(image.file), target])
