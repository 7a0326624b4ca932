"""Faults of real hosts under a playbook: no power, no network, no room, and no control process.

A host that is lost is unreachable, others go on, nothing is half written, and `--resume` ends the
run as it would have ended. On hosts of a lab of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sappers.config import ControlHome
from sappers.lab.lab import Lab
from sappers.lab.record import load_record
from tests.e2e.conftest import LAB_NAME, OnHost
from tests.waiting import wait_until

BIG_BYTES = 80_000_000
HALF = ".big.sappers-new"
DONE = ["big", "conf", "last", "told"]
# 20 s of silence, seen within 5 s, and what the recap needs; far less than a TCP connection takes.
LOST_SECONDS = 60.0
PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - {name: ask, command: echo said, register: said}
    - {name: set, copy: {content: new, dest: /srv/conf}, notify: tell}
    - {name: big, copy: {src: big, dest: /srv/big}}
  handlers:
    - {name: tell, shell: "echo {{ said.stdout }} > /srv/told"}
- hosts: all
  gather_facts: false
  tasks:
    - {name: last, command: touch /srv/last}
"""
FULL = """
- hosts: {host}
  gather_facts: false
  tasks:
    - {{name: send, copy: {{src: large.deb, dest: /root/large.deb}}}}
    - {{name: install, apt: {{deb: /root/large.deb}}, notify: tell}}
    - {{name: after, copy: {{content: after, dest: /root/after}}}}
  handlers:
    - {{name: tell, shell: "echo told >> /root/told"}}
"""
WATCHER = f"""
until [ "$(stat -c %s /srv/{HALF} 2>/dev/null || echo 0)" -gt 1000000 ]; do sleep 0.01; done
"""


@pytest.fixture(scope="module")
def faulty(home: ControlHome) -> Iterator[Lab]:
    """Three hosts that nothing was done to."""
    lab = Lab(f"{LAB_NAME}-faults", home)
    try:
        lab.up(3)
        yield lab
    finally:
        lab.down()


@pytest.fixture
def folder(faulty: Lab, tmp_path: Path, on_host: OnHost) -> Path:
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    (tmp_path / "big").write_bytes(os.urandom(BIG_BYTES))
    for host in faulty.status().hosts:
        old = "rm -rf /srv/*; echo old > /srv/big"
        on_host(faulty, host.name, old).check_returncode()
    return tmp_path


def start(lab: Lab, home: ControlHome, folder: Path, *words: str) -> subprocess.Popen[str]:
    program = str(Path(sys.executable).with_name("sappers-deploy"))
    command = [program, "playbook", "run", "play.yml", "-i", str(lab.inventory), *words]
    environment = os.environ | {"SAPPERS_HOME": str(home.data), "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=180)
    assert "Traceback" not in output
    return process.returncode, output


def files_of(lab: Lab, host: str, *below: str) -> Path:
    """A folder of a host, seen from here: its disk, whether it runs or not."""
    record = load_record(lab.folder / "lab.json")
    assert record is not None
    machine = next(one.machine for one in record.hosts if one.name == host)
    return lab.folder / "hosts" / machine / "upper" / Path(*below)


def names_in(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir()) if folder.exists() else []


def is_half_written(lab: Lab, host: str) -> bool:
    path = files_of(lab, host, "srv") / HALF
    return path.exists() and path.stat().st_size > 1_000_000


def is_done(lab: Lab, host: str, folder: Path) -> bool:
    there = files_of(lab, host, "srv")
    assert names_in(there) == DONE
    assert (there / "told").read_text() == "said\n"
    return (there / "big").read_bytes() == (folder / "big").read_bytes()


def test_hosts_without_power_and_network_are_unreachable_and_the_run_is_resumed(
    faulty: Lab, home: ControlHome, folder: Path
) -> None:
    dark, cut, well = (host.name for host in faulty.status().hosts)
    off = subprocess.Popen(
        faulty.ssh_command(dark, (f"{WATCHER} poweroff -f",)),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    began = time.monotonic()
    process = start(faulty, home, folder)
    wait_until("a part is there", lambda: is_half_written(faulty, cut))
    faulty.deafen(cut, [], here=True)
    code, output = end_of(process)
    took = time.monotonic() - began
    off.wait(30)
    assert code == 4, output
    for host in (dark, cut):
        assert f"unreachable: [{host}]" in output
        assert (files_of(faulty, host, "srv") / "big").read_bytes() == b"old\n"
    assert "failed: [" not in output
    assert took < LOST_SECONDS, f"{took:.1f} s: {output}"
    assert is_done(faulty, well, folder)
    faulty.mend()
    faulty.start_host(dark)

    code, output = end_of(start(faulty, home, folder, "--resume"))
    assert code == 0, output
    told = next(line for line in output.splitlines() if "to be finished on " in line)
    assert set(told.partition("to be finished on ")[2].split(", ")) == {dark, cut}
    assert f"[{well}]" not in output
    for host in (dark, cut):
        wait_until("nothing half written is left", lambda host=host: is_done(faulty, host, folder))


def test_a_control_process_that_is_killed_leaves_hosts_whole_and_the_run_is_resumed(
    faulty: Lab, home: ControlHome, folder: Path
) -> None:
    hosts = [host.name for host in faulty.status().hosts]
    process = start(faulty, home, folder)
    wait_until("a part is there", lambda: is_half_written(faulty, hosts[0]))
    process.kill()
    process.communicate()
    for host in hosts:
        there = files_of(faulty, host, "srv")
        wait_until("the half is away", lambda there=there: HALF not in names_in(there))
        assert (there / "big").stat().st_size in (4, BIG_BYTES)
        assert (there / "conf").read_text() == "new"
    code, output = end_of(start(faulty, home, folder, "--resume"))
    assert code == 0, output
    assert all(is_done(faulty, host, folder) for host in hosts)


def test_a_package_for_which_there_is_no_room(
    faulty: Lab, home: ControlHome, tmp_path: Path, on_host: OnHost
) -> None:
    """`dpkg` says it; nothing of the package is there, and once there is room it is installed."""
    host = faulty.status().hosts[0].name
    (tmp_path / "play.yml").write_text(FULL.format(host=host))
    make_package(tmp_path)
    mounted = "mkdir -p /opt/large && mount -t tmpfs -o size=1m tmpfs /opt/large"
    on_host(faulty, host, mounted).check_returncode()
    code, output = end_of(start(faulty, home, tmp_path))
    assert code == 2, output
    assert "No space left on device" in output
    assert on_host(faulty, host, "ls -A /opt/large; ls /root").stdout == "large.deb\n"
    on_host(faulty, host, "mount -o remount,size=64m /opt/large").check_returncode()
    code, output = end_of(start(faulty, home, tmp_path, "--resume"))
    assert code == 0, output
    there = on_host(faulty, host, "stat -c %s /opt/large/large; cat /root/after /root/told")
    assert there.stdout == "8000000\naftertold\n"


def make_package(folder: Path) -> None:
    """A package of 8 MB."""
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "opt/large").mkdir(parents=True)
    (tree / "opt/large/large").write_bytes(os.urandom(8_000_000))
    (tree / "DEBIAN/control").write_text(
        "Package: large\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\n"
        "Description: much\n"
    )
    built = ["dpkg-deb", "--build", "--root-owner-group", "-Znone", tree, folder / "large.deb"]
    subprocess.run(built, check=True, stdout=subprocess.DEVNULL)
