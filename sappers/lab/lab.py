"""A lab: throw-away hosts that are started, cut off, restarted and removed as one wishes.

Invariant: the lab's record is on disk before anything else of the lab exists, and all of it carries
the lab's mark (folder, control groups, bridge). So whatever was interrupted, `up` finishes it and
`down` leaves nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Literal

import msgspec

from sappers.config import ControlHome
from sappers.durable import write_durably
from sappers.errors import LabError
from sappers.lab.base_root import ensure_base_root
from sappers.lab.container import Container, group_path, make_key
from sappers.lab.control_group import hierarchy
from sappers.lab.inventory import render_inventory, render_known_hosts, render_name_table
from sappers.lab.kernel_limits import raise_limits
from sappers.lab.lock import folder_lock
from sappers.lab.network import ensure_bridge, remove_bridge
from sappers.lab.partition import deafen
from sappers.lab.plan import HostSpec, check_address, check_host_count, plan_lab
from sappers.lab.record import LabRecord, load_record, save_record
from sappers.lab.waiting import await_condition

Progress = Callable[[str], None]
HostState = Literal["up", "booting", "paused", "off"]

_PLAIN_PATH = re.compile(r"[\w./@+-]+", re.ASCII)
_TOOLS = ("systemd-nspawn", "ssh", "ssh-keygen", "nsenter", "mount", "setsid")
_BOOT_SECONDS = 90.0
_ANSWER_SECONDS = 1.0
_SSH_PORT = 22


class HostStatus(msgspec.Struct, frozen=True):
    """A host as last seen; `up` means that its sshd answers."""

    name: str
    address: str
    state: HostState


class LabStatus(msgspec.Struct, frozen=True):
    """A lab as last seen; without hosts when there is none."""

    name: str
    subnet: str
    bridge: str
    inventory: str
    hosts: tuple[HostStatus, ...]


class Lab:
    """One lab on this machine.

    Args:
        name: Hosts are called `<name>1`, `<name>2`, …; subnet and bridge follow from it.
        home: Where its folder and the base root's cache are.
        progress: Told what is being done, one line each.
    """

    def __init__(
        self, name: str, home: ControlHome, *, progress: Progress = lambda _: None
    ) -> None:
        self.plan = plan_lab(name)
        self.folder = home.lab(name).absolute()
        self._cache = home.cache.absolute()
        self._progress = progress
        self._mark = f"sappers-lab-{hashlib.sha256(bytes(self.folder)).hexdigest()[:8]}"

    @property
    def inventory(self) -> Path:
        """The lab's inventory, with absolute paths."""
        return self.folder / "inventory.ini"

    @property
    def key(self) -> Path:
        """Private key that logs in as root, admin (may sudo) and plain (may not)."""
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The hosts' keys, for OpenSSH."""
        return self.folder / "known_hosts"

    def up(self, hosts: int | None = None) -> LabStatus:
        """Make the lab run with at least `hosts` hosts (a new lab: 3); all answer on return.

        Hosts that were killed or paused run again, with their disks. Idempotent.

        Raises:
            LabError: This machine cannot, or a host does not come up.
            LockHeld: Another process works on this lab.
        """
        if hosts is not None:
            check_host_count(hosts)  # before the base root is built, which takes minutes
        self._check_machine()
        with self._lock():
            record = load_record(self._record_path) or LabRecord(
                base=str(ensure_base_root(self._cache, self._progress))
            )
            record = record.extended(self.plan, hosts)
            save_record(self._record_path, record)
            if not self.key.exists():
                make_key(self.key, f"sappers-lab-{self.plan.name}")
            ensure_bridge(self.plan, self._owner)
            raise_limits()
            for spec in record.hosts:
                self._start(record, spec)
            self._publish(record)
            for spec in record.hosts:
                self._await_up(spec)
        return self.status()

    def down(self) -> None:
        """Remove the lab with everything of it, whatever state it is in. Idempotent.

        Raises:
            LabError: Something of it cannot be removed; says what.
            LockHeld: Another process works on this lab.
        """
        _check_root()
        with self._lock():
            for machine in self._machines():
                self._container(machine).remove()
            remove_bridge(self.plan, self._owner)
            shutil.rmtree(self.folder)
        with suppress(OSError):  # other labs are in it
            self.folder.parent.rmdir()

    def status(self) -> LabStatus:
        """How the lab and its hosts are now; changes nothing.

        Raises:
            LabError: The lab's record is damaged, or we are not root.
        """
        _check_root()
        record = load_record(self._record_path)
        hosts = tuple(
            HostStatus(spec.name, spec.address, self._state(spec))
            for spec in (record.hosts if record else ())
        )
        plan = self.plan
        return LabStatus(plan.name, plan.subnet, plan.bridge, str(self.inventory), hosts)

    def ssh_command(
        self, host: str, command: Sequence[str] = (), *, user: str = "root"
    ) -> tuple[str, ...]:
        """The ssh call that logs in to a host, strict about its key, or runs `command` there.

        Raises:
            LabError: No such lab or host.
        """
        spec = self._find(self._require(), host)
        return (
            "ssh", "-F", "none", "-i", str(self.key),
            "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
            "-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={self.known_hosts}",
            "-o", "GlobalKnownHostsFile=none", f"{user}@{spec.address}", *command,
        )  # fmt: skip

    def control_group(self, host: str) -> Path:
        """Where the kernel lists a host's processes. Raises LabError: no such lab or host."""
        return self._container(self._find(self._require(), host).machine).group.path

    def kill_host(self, host: str) -> None:
        """Cut a host's power: all its processes end at once; its disk stays.

        Raises:
            LabError: No such lab or host.
            LockHeld: Another process works on this lab.
        """
        with self._lock():
            self._container(self._find(self._require(), host).machine).kill()

    def start_host(self, host: str, *, address: str | None = None) -> HostSpec:
        """Boot a host that was killed; with `address`, at a new one. It answers on return.

        Raises:
            LabError: No such host; the address is unusable, taken, or new to a running host.
            LockHeld: Another process works on this lab.
        """
        with self._lock():
            record = self._require()
            spec = self._find(record, host)
            if address is not None and address != spec.address:
                check_address(self.plan, address)
                if self._container(spec.machine).group.populated():
                    raise LabError(f"{host} runs at {spec.address}", hint="kill it first")
                spec = msgspec.structs.replace(spec, address=address)
                record = record.with_host(spec)
                save_record(self._record_path, record)
            self._start(record, spec)
            self._publish(record)
            self._await_up(spec)
        return spec

    def pause_host(self, host: str) -> None:
        """Stop all processes of a host where they are: a machine that hangs.

        Raises:
            LabError: No such lab or host, or it does not run.
        """
        self._container(self._find(self._require(), host).machine).group.freeze(frozen=True)

    def resume_host(self, host: str) -> None:
        """Let a paused host go on. Raises as `pause_host`."""
        self._container(self._find(self._require(), host).machine).group.freeze(frozen=False)

    def partition(self, *sides: Sequence[str]) -> None:
        """Let hosts of different sides not hear each other until `mend`; this machine hears all.

        Hosts that are on no side hear everyone. A host that restarts hears everyone again.

        Raises:
            LabError: No such lab or host.
        """
        record = self._require()
        addresses = [[self._find(record, host).address for host in side] for side in sides]
        everyone = {address for side in addresses for address in side}
        for spec in record.hosts:
            own = next((side for side in addresses if spec.address in side), everyone)
            leader = self._container(spec.machine).group.leader()
            if leader is not None:
                deafen(leader, sorted(everyone.difference(own)))

    def deafen(self, host: str, others: Sequence[str], *, here: bool = False) -> None:
        """Let a host hear none of these, who go on hearing it, until `mend`. As `partition`.

        Args:
            here: Nor this machine.
        """
        record = self._require()
        addresses = [self._find(record, other).address for other in others]
        addresses += [self.plan.control_address] if here else []
        leader = self._container(self._find(record, host).machine).group.leader()
        if leader is not None:
            deafen(leader, addresses)

    def mend(self) -> None:
        """End every partition. Raises as `partition`."""
        self.partition()

    @property
    def _owner(self) -> str:
        return f"{self._mark} {self.folder}"[:255]

    @property
    def _record_path(self) -> Path:
        return self.folder / "lab.json"

    def _lock(self) -> AbstractContextManager[None]:
        return folder_lock(self.folder, f"lab `{self.plan.name}`")

    def _container(self, machine: str) -> Container:
        return Container(self.folder, self._mark, machine)

    def _machines(self) -> set[str]:
        """Every container that has a folder or a process, recorded or not."""
        folders = {path.name for path in (self.folder / "hosts").glob("*")}
        prefix = f"{self._mark}-"
        groups = hierarchy().glob(group_path(f"{prefix}*"))
        return folders | {
            path.name.removesuffix(".service").removeprefix(prefix) for path in groups
        }

    def _check_machine(self) -> None:
        _check_root()
        if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
            raise LabError(f"not installed here: {', '.join(missing)}", hint="run `make setup`")
        if not _PLAIN_PATH.fullmatch(f"{self.folder}{self._cache}"):
            raise LabError(
                f"{self.folder}: a lab's path may have letters, digits and ./_@+- only",
                hint="choose another SAPPERS_HOME",
            )

    def _require(self) -> LabRecord:
        _check_root()
        record = load_record(self._record_path)
        if record is None:
            message = f"there is no lab `{self.plan.name}`"
            raise LabError(message, hint=f"run {self.plan.command('up')}")
        return record

    def _find(self, record: LabRecord, name: str) -> HostSpec:
        for host in record.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in record.hosts)
        raise LabError(f"lab `{self.plan.name}` has no host {name!r}", hint=f"it has {known}")

    def _start(self, record: LabRecord, spec: HostSpec) -> None:
        container = self._container(spec.machine)
        if container.group.frozen():
            container.group.freeze(frozen=False)
        if container.group.populated():
            return
        if not Path(record.base).is_dir():
            raise LabError(
                f"the base root {record.base} of lab `{self.plan.name}` is gone",
                hint=f"run {self.plan.command('down')}, then {self.plan.command('up')}",
            )
        self._progress(f"{spec.name} boots at {spec.address}")
        login_key = " ".join(self.key.with_suffix(".pub").read_text().split())
        names = render_name_table(self.plan, record.hosts)
        container.start(spec, self.plan, Path(record.base), names, login_key)

    def _publish(self, record: LabRecord) -> None:
        keys = {spec.name: self._container(spec.machine).host_key for spec in record.hosts}
        known_hosts = render_known_hosts(record.hosts, keys)
        inventory = render_inventory(self.plan.name, record.hosts, self.key, self.known_hosts)
        write_durably(self.known_hosts, known_hosts.encode())
        write_durably(self.inventory, inventory.encode())

    def _await_up(self, spec: HostSpec) -> None:
        container = self._container(spec.machine)
        console = f"see {container.console}"

        def answers() -> bool:
            if not container.group.populated():
                tail = container.console.read_text(errors="replace")[-1000:].strip()
                raise LabError(f"{spec.name} ended while it booted: {tail}", hint=console)
            return _sshd_answers(spec.address)

        await_condition(answers, _BOOT_SECONDS, f"sshd of {spec.name} answers", hint=console)

    def _state(self, spec: HostSpec) -> HostState:
        group = self._container(spec.machine).group
        if not group.populated():
            return "off"
        if group.frozen():
            return "paused"
        return "up" if _sshd_answers(spec.address) else "booting"


def _sshd_answers(address: str) -> bool:
    try:
        with socket.create_connection((address, _SSH_PORT), _ANSWER_SECONDS) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _check_root() -> None:
    if os.geteuid() != 0:
        raise LabError(
            "a lab needs root: it makes containers and a bridge", hint="run it with sudo"
        )
