"""A bootstrapped cluster on lab hosts: what tests ask of it and do to it."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from typing import TypeVar

import httpx

from sappers.api.image_calls import ImageCalls
from sappers.api.operator_client import OperatorClient
from sappers.api.ways import Endpoint
from sappers.api.wire import WantedImage, WantedWorkload
from sappers.assembly.images import LocalImages
from sappers.config import ControlHome
from sappers.errors import ApiError
from sappers.lab.lab import Lab
from sappers.lab.plan import HostSpec
from sappers.lab.record import load_record
from sappers.launchers.guest_folder import SPARE_PREFIX, UNIT_PREFIX
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.event import Event
from sappers.model.member import MemberState
from sappers.model.view import ClusterView, MemberHealth
from sappers.provisioner.control.record import (
    OPERATOR_CERTIFICATE_FILE,
    OPERATOR_KEY_FILE,
    last_cluster_name,
)
from sappers.security.identity import load_identity
from sappers.security.tls import Identity

LOOK_SECONDS = 0.1
GUESTS = "/var/lib/sappers/guests"
T = TypeVar("T")


def until(look: Callable[[], T], seconds: float, what: str) -> T:
    """What `look` returns once it is true; AssertionErrors and ApiErrors mean: not yet."""
    deadline = time.monotonic() + seconds
    while True:
        why: object = "it is false"
        try:
            found = look()
            if found:
                return found
        except (AssertionError, ApiError, httpx.HTTPError, OSError) as error:
            why = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}: {why}")
        time.sleep(LOOK_SECONDS)


class LabCluster:
    """The cluster of a lab. Hosts are named as in the lab."""

    def __init__(self, lab: Lab, home: ControlHome) -> None:
        self.lab = lab
        self.home = home
        self.folder = home.cluster(last_cluster_name(home))
        self.images = LocalImages(home)

    @property
    def identity(self) -> Identity:
        """The operator's."""
        return load_identity(self.folder, cert=OPERATOR_CERTIFICATE_FILE, key=OPERATOR_KEY_FILE)

    def address(self, host: str) -> str:
        """Where a host is now."""
        return next(one.address for one in self._specs() if one.name == host)

    def new_address(self) -> str:
        """One that no host has."""
        network = self.lab.plan.network
        taken = {one.address for one in self._specs()}
        return next(str(network[n]) for n in range(99, 11, -1) if str(network[n]) not in taken)

    def hosts(self) -> tuple[str, ...]:
        """Those that run."""
        running = (
            one for one in self._specs() if self.lab._container(one.machine).group.populated()
        )
        return tuple(one.name for one in running)

    def _specs(self) -> tuple[HostSpec, ...]:
        # Not by the lab's status: it knocks at each host's sshd.
        record = load_record(self.lab.folder / "lab.json")
        assert record is not None
        return record.hosts

    def client(self, *hosts: str) -> OperatorClient:
        """A client of these hosts (of all that run, if none is named)."""
        asked = hosts or self.hosts()
        endpoints = [Endpoint(host, self.address(host), 11000) for host in asked]
        return OperatorClient(self.identity, endpoints)

    def view(self, *hosts: str) -> ClusterView:
        """The cluster as one of these hosts sees it; as the leader does, if none is named.

        What anybody was told to be done, by whichever member, is done by the leader's word.
        """
        with self.client(*hosts) as client:
            view = client.view()
        if hosts or view.leader_id in (None, view.answered_by):
            return view
        leader = next(m.member.name for m in view.members if m.member.id == view.leader_id)
        try:
            with self.client(leader) as client:
                return client.view()
        except (ApiError, StopIteration):  # it has just gone
            return view

    def events(self) -> tuple[Event, ...]:
        """What happened of late, as the leader knows it."""
        with self.client(self.leader()) as client:
            return client.events(limit=1000).events

    def health(self, host: str) -> MemberHealth:
        """What a host's agent says of itself."""
        with self.client(host) as client:
            return client.health()

    def member_id(self, host: str) -> str:
        """The id on a host's disk."""
        return self.run(host, "cat /var/lib/sappers/node-id")

    def leader(self, *hosts: str) -> str:
        """The host that leads."""

        def look() -> str:
            view = self.view(*hosts)
            return next(m.member.name for m in view.members if m.member.id == view.leader_id)

        return until(lambda: _quietly(look), 90, "somebody leads")

    def run(self, host: str, command: str) -> str:
        """What a command prints on a host, as root; it must end well."""
        done = subprocess.run(
            self.lab.ssh_command(host, (command,)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert done.returncode == 0, f"{host}: {command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def main_pid(self, host: str, unit: str) -> int:
        """The process of a unit, as its host counts; 0 when it does not run."""
        return int(self.run(host, f"systemctl show {unit} -p MainPID --value"))

    def guest_units(self, host: str) -> dict[str, str]:
        """The allocation of each guest's unit on a host, whatever its state; without spares."""
        units = self.run(
            host, f"systemctl list-units --all --plain --no-legend '{UNIT_PREFIX}*' | cut -d' ' -f1"
        )
        cat = f"for r in {GUESTS}/*/record.json; do cat $r 2>/dev/null; echo; done; true"
        records = map(json.loads, filter(None, self.run(host, cat).splitlines()))
        owners = {one["unit"]: one["allocation_id"] for one in records if one.get("unit")}
        names = {name.removesuffix(".service") for name in units.split()}
        return {
            name: owners.get(name) or name.removeprefix(UNIT_PREFIX)
            for name in names
            if name in owners or not name.startswith(SPARE_PREFIX)
        }

    def spares(self, host: str) -> set[str]:
        """Units of machines that stand still, until one is a guest."""
        listed = f"systemctl list-units --all --plain --no-legend '{SPARE_PREFIX}*' | cut -d' ' -f1"
        names = {name.removesuffix(".service") for name in self.run(host, listed).split()}
        return names - self.guest_units(host).keys()

    def ready_spares(self, host: str) -> set[str]:
        """Those of them that the next guest may take, by their agent's word; others are made."""
        told = self.run(host, "journalctl -u sappers -o cat | grep 'spare made'; true")
        return {unit for unit in self.spares(host) if unit in told}

    def guest_unit(self, host: str, allocation_id: str) -> str:
        """The unit that a guest runs in, which may have been a spare."""
        found = (unit for unit, owner in self.guest_units(host).items() if owner == allocation_id)
        return next(found, f"{UNIT_PREFIX}{allocation_id}")

    def raft_pid(self, host: str) -> int:
        """The raft process, a child of the agent beside short-lived ones."""
        agent = self.main_pid(host, "sappers")
        look = (
            f"for pid in $(cat /proc/{agent}/task/*/children 2>/dev/null); do"
            " grep -qs sappers.consensus.process /proc/$pid/cmdline && echo $pid; done; true"
        )
        pids = self.run(host, look).split()
        assert pids, f"{host}: no raft process"
        return int(pids[0])

    def kill(self, host: str, pid: int) -> float:
        """kill -9; when it was done, in Unix time (hosts share this machine's clock)."""
        assert pid > 1
        return float(self.run(host, f"date +%s.%N; kill -9 {pid}"))

    def wanted(self, *, count: int = 1, port: int | None = 8080) -> WantedWorkload:
        """The hello image as a workload, to be written with a client."""
        digest = self.images.store.named()["hello"]
        return WantedWorkload(WantedImage("hello", digest), guest_port=port, count=count)

    def chunks_on(self, host: str, digest: str) -> int:
        """How many chunks of an image a host's member says that it has."""
        with self.client(host) as client:
            found = ImageCalls(client).images().images
        return next((one.chunks_here for one in found if one.image.digest == digest), 0)

    def guest(self, workload: str, *hosts: str) -> Allocation:
        """The one copy of a workload that should run."""
        copies = [
            one
            for one in self.view(*hosts).allocations
            if one.workload == workload and one.wanted and not one.status.is_terminal
        ]
        assert len(copies) == 1, f"{workload}: {copies}"
        return copies[0]

    def healthy_guest(
        self, workload: str, seconds: float = 240, *, not_on: str = "", hosts: Sequence[str] = ()
    ) -> Allocation:
        """The one copy, once it is healthy (on another member than `not_on`)."""

        def look() -> Allocation | None:
            guest = self.guest(workload, *hosts)
            assert guest.status is AllocationStatus.HEALTHY, guest
            assert guest.member_id != not_on, guest
            return guest

        found = until(look, seconds, f"{workload} is healthy")
        assert found is not None
        return found

    def host_of(self, member_id: str) -> str:
        """The host of a member."""
        return next(m.member.name for m in self.view().members if m.member.id == member_id)

    def greeting(self, guest: Allocation) -> str:
        """What the guest answers over its published port."""
        url = f"http://{self.address(self.host_of(guest.member_id))}:{guest.host_port}/"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return str(answer.read().decode().strip())

    def journal(self, host: str) -> list[tuple[int, str]]:
        """What the agent and its raft process logged on a host: (pid, line)."""
        text = self.run(
            host, "journalctl -u sappers -o json --output-fields=MESSAGE,SYSLOG_IDENTIFIER,_PID"
        )
        lines = [json.loads(line) for line in text.splitlines()]
        return [
            (int(line["_PID"]), line["MESSAGE"])
            for line in lines
            if line.get("SYSLOG_IDENTIFIER") != "systemd"
        ]

    def await_whole(self, seconds: float = 150) -> ClusterView:
        """The cluster once every host's agent lives, follows one leader, has all there is, and
        the hub runs everywhere it belongs; nothing needs a person."""
        names = self.hosts()

        def look() -> ClusterView:
            healths = [self.health(name) for name in names]
            assert len({one.leader_id for one in healths}) == 1, healths
            assert healths[0].leader_id, healths
            assert len({one.cluster_id for one in healths}) == 1, healths
            assert len({one.applied_index for one in healths}) == 1, healths
            assert {one.hub for one in healths} <= {"running", "-"}, healths
            assert all(one.hub_connected for one in healths), healths
            view = self.view()
            assert {m.member.name for m in view.members} == set(names), view.members
            assert all(m.member.state is MemberState.ALIVE for m in view.members), view.members
            assert all(m.member.address == self.address(m.member.name) for m in view.members)
            assert not view.attention, view.attention
            return view

        return until(look, seconds, "the cluster is whole")

    def await_trusted(self, seconds: float = 180) -> None:
        """Return once nothing speaks against any member; until then others are preferred."""

        def look() -> bool:
            suspected = {m.member.name: m.suspected_by for m in self.view().members}
            assert not any(suspected.values()), suspected
            return True

        until(look, seconds, "every member is trusted")

    def await_images(self, seconds: float = 300) -> None:
        """Return once all hosts have all images whole; one that lacked room waits between tries."""

        def look() -> bool:
            healths = [self.health(name) for name in self.hosts()]
            assert len({one.images_whole for one in healths}) == 1, healths
            assert not any(one.image_trouble for one in healths), healths
            return True

        until(look, seconds, "all hosts have all images")


def no_traceback(text: str) -> str:
    """The text, which is for a person."""
    assert "Traceback" not in text, text
    return text


def write_until(client: OperatorClient, name: str, wanted: WantedWorkload, seconds: float) -> float:
    """Put a workload again and again; when it was acknowledged, in Unix time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            client.put_workload(name, wanted)
        except ApiError as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"no write within {seconds:g} s: {error}") from error
            time.sleep(0.02)
        else:
            return time.time()


def one_line(text: str) -> str:
    """Words apart by one space, as rich may have wrapped them."""
    return re.sub(r"\s+", " ", text).strip()


def _quietly(look: Callable[[], str]) -> str:
    with contextlib.suppress(StopIteration):
        return look()
    return ""
