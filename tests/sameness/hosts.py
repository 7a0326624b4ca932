"""Two lab hosts that are the same, and what is on them."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sappers.config import ControlHome
from sappers.lab.lab import Lab
from sappers.lab.record import load_record
from sappers.provisioner.bootstrap.apt_proxy import AptProxy

State = Mapping[str, Any]
HOSTNAME = "twin"
# What Ansible's modules need on a host beyond Python, and what playbooks of the corpus work with.
PACKAGES = ("git", "iptables", "python3-apt", "python3-pip", "python3-venv", "rsync", "unzip")
_LOOK = Path(__file__).with_name("look.py")
_SECONDS = 900.0
_LOOK_SECONDS = 0.2


class Twins:
    """Two hosts of a lab: the first for Ansible, the second for us."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.names = tuple(f"{lab.plan.name}{number}" for number in (1, 2))

    @classmethod
    @contextmanager
    def open(
        cls, name: str, home: ControlHome, say: Callable[[str], None], packages: Sequence[str] = ()
    ) -> Iterator[Twins]:
        """A lab of its own, with some packages more; removed at the end.

        The second host begins with what was written on the first one's disk.
        """
        lab = Lab(name, home, progress=say)
        twins = cls(lab)
        try:
            lab.down()
            lab.up(1)
            twins._install(home, (*PACKAGES, *packages))
            lab.kill_host(twins.names[0])
            twins._copy_disk()
            lab.up(2)
            for host in twins.names:
                twins._name(host)
            yield twins
        finally:
            lab.down()

    def _install(self, home: ControlHome, packages: Sequence[str]) -> None:
        with AptProxy(home.cache / "apt") as proxy:
            port = proxy.port()
            assert port, "apt-cacher-ng is not installed; run tools/setup"
            options = (
                f"-o Acquire::http::Proxy=http://127.0.0.1:{port} -o APT::Install-Recommends=false"
            )
            script = (
                f"export DEBIAN_FRONTEND=noninteractive; set -e; apt-get -qq {options} update;"
                f" apt-get -qq {options} install {' '.join(packages)}; apt-get clean;"
                # Playbooks bring their own archive; others cannot be reached from there.
                " rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*"
            )
            tunnel = ("-R", f"127.0.0.1:{port}:127.0.0.1:{port}")
            self._ssh(self.names[0], script, more=tunnel)

    def _name(self, host: str) -> None:
        """The lab names each host for itself; these two are called the same."""
        self._ssh(host, f"hostname {HOSTNAME}; echo {HOSTNAME} > /etc/hostname")

    @contextmanager
    def coming_back(self) -> Iterator[None]:
        """Hosts that go down are started again: a container that reboots does not by itself."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_LOOK_SECONDS):
                for host in self.lab.status().hosts:
                    if host.state == "off":
                        self.lab.start_host(host.name)
                        self._name(host.name)

        with ThreadPoolExecutor(1) as pool:
            watching = pool.submit(watch)
            try:
                yield
            finally:
                over.set()
                watching.result()

    def _copy_disk(self) -> None:
        plan = self.lab.plan
        record = load_record(self.lab.folder / "lab.json")
        assert record is not None
        one, two = (self.lab.folder / "hosts" / plan.host(n, "").machine / "upper" for n in (1, 2))
        shutil.rmtree(two, ignore_errors=True)
        two.parent.mkdir(parents=True, exist_ok=True)
        # With the marks of overlayfs: what was removed of the base root stays removed.
        subprocess.run(["cp", "--archive", str(one), str(two)], check=True)

    def address(self, host: str) -> str:
        """Where a host is."""
        return next(one.address for one in self.lab.status().hosts if one.name == host)

    def on_both(self, script: str) -> list[str]:
        """What a script prints on each of them; it must end well."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda name: self._ssh(name, script), self.names))

    def look(self) -> list[State]:
        """What is on each of them."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(self.look_at, self.names))

    def look_at(self, host: str) -> State:
        """What is on one of them."""
        found: State = json.loads(self._ssh(host, "python3 -I -", _LOOK.read_text()))
        return found

    def _ssh(self, name: str, command: str, stdin: str = "", more: Sequence[str] = ()) -> str:
        call = self.lab.ssh_command(name, (command,))
        done = subprocess.run(
            [call[0], *more, *call[1:]],
            input=stdin, capture_output=True, text=True, check=False, timeout=_SECONDS,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{name}: {command}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout


def differences(ansible: State, ours: State) -> list[str]:
    """Where the two differ, a line each."""
    return [
        f"{name}: Ansible: {ansible.get(name, 'nothing')!r}, ours: {ours.get(name, 'nothing')!r}"
        for name in sorted({*ansible, *ours})
        if ansible.get(name) != ours.get(name)
    ]
