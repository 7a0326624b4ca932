"""An appliance: built by Packer, booted beside a lab's host, a member by gossip alone.

It has a lab and a home of its own: afterwards the cluster has a dead member for ever, which tests
that want a whole cluster could not bear.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from sappers.assembly.images import LocalImages
from sappers.config import ControlHome
from sappers.lab.lab import Lab
from sappers.lab.plan import LabPlan
from sappers.launchers.accelerator import detect_accelerator
from sappers.model.image import ApplianceBoot
from sappers.model.member import MemberState
from tests.e2e.conftest import LAB_NAME
from tests.e2e.lab_cluster import LabCluster, until

BUILD_SECONDS = 1200.0
JOIN_SECONDS = 600.0
HOST_NUMBER = 200  # of its address in the lab's subnet; the lab's own hosts are far below
NAME = "appliance1"
ROOT_START = 161 << 20  # where its second partition begins

Deploy = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [
    pytest.mark.timeout(BUILD_SECONDS + JOIN_SECONDS),
    pytest.mark.skipif(not shutil.which("packer"), reason="packer is not here"),
]


@pytest.fixture(scope="module")
def own_home(home: ControlHome) -> ControlHome:
    return ControlHome(data=home.data / "appliance", cache=home.cache)


@pytest.fixture(scope="module")
def own_lab(own_home: ControlHome) -> Iterator[Lab]:
    lab = Lab(f"{LAB_NAME}-ap", own_home)
    lab.down()  # what a killed run left
    try:
        lab.up(1)
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="module")
def own_deploy(own_home: ControlHome) -> Deploy:
    folders = {"SAPPERS_HOME": str(own_home.data), "SAPPERS_CACHE": str(own_home.cache)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [Path(sys.executable).with_name("sappers-deploy"), *arguments],
            env=os.environ | folders,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    return run


@pytest.fixture(scope="module")
def disk(own_deploy: Deploy, own_home: ControlHome) -> Path:
    """The appliance's disk as the store has it."""
    digest = own_deploy("image", "build", "appliance").stdout.split()[-1]
    again = own_deploy("image", "build", "appliance")
    assert "is up to date" in again.stderr and again.stdout.split()[-1] == digest
    store = LocalImages(own_home).store
    boot = store.assemble(digest).boot
    assert isinstance(boot, ApplianceBoot)
    return store.blob_path(boot.disk.digest)


@contextlib.contextmanager
def tap_on(plan: LabPlan) -> Iterator[str]:
    """A network device on the lab's bridge."""
    name = f"ap{plan.bridge}"[:15]
    with IPRoute() as netlink:
        netlink.link("add", ifname=name, kind="tuntap", mode="tap")
        try:
            index = netlink.link_lookup(ifname=name)[0]
            bridge = netlink.link_lookup(ifname=plan.bridge)[0]
            netlink.link("set", index=index, master=bridge, state="up")
            yield name
        finally:
            for index in netlink.link_lookup(ifname=name):
                netlink.link("del", index=index)


@contextlib.contextmanager
def booted(disk: Path, seed: Path, tap: str, console: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A PC with the disk, whose writes are forgotten, and the seed."""
    command = [
        "qemu-system-x86_64", "-M", "q35", "-accel", detect_accelerator().kind, "-cpu", "max",
        "-m", "1024", "-smp", "2", "-nodefaults", "-display", "none", "-serial", f"file:{console}",
        "-drive", f"file={disk},format=raw,if=virtio,snapshot=on",
        "-drive", f"file={seed},format=raw,if=virtio",
        "-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no",
        "-device", "virtio-net-pci,netdev=net",
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as machine:
        try:
            yield machine
        finally:
            machine.kill()


def test_the_disk_has_nothing_of_the_machine_that_packer_booted(disk: Path) -> None:
    root = f"{disk}?offset={ROOT_START}"

    def names(folder: str) -> list[str]:
        listed = debugfs(f"ls -p {folder}", root).split()
        return [line.split("/")[5] for line in listed]

    assert "sshd_config" in names("/etc/ssh") and "current" in names("/opt/sappers")
    assert not [name for name in names("/etc/ssh") if name.startswith("ssh_host_")]
    assert ".ssh" not in names("/root")
    assert names("/var/log/journal") == names("/var/tmp") == [".", ".."]
    assert debugfs("cat /etc/machine-id", root) == ""


def test_an_appliance_with_a_seed_becomes_a_member(
    disk: Path,
    own_lab: Lab,
    own_deploy: Deploy,
    own_home: ControlHome,
    tmp_path: Path,
) -> None:
    lab = own_lab
    own_deploy("bootstrap", str(lab.inventory))
    cluster = LabCluster(lab, own_home)
    seed, console = tmp_path / "seed.img", tmp_path / "console.log"
    address = f"{lab.plan.network[HOST_NUMBER]}/{lab.plan.network.prefixlen}"
    made = own_deploy("image", "seed", NAME, "--out", str(seed), "--address", address)
    node_id = made.stdout.strip()

    def member() -> bool:
        assert machine.poll() is None, "QEMU ended"
        seen = {one.member.id: one for one in cluster.view().members}
        found = seen.get(node_id)
        return (
            found is not None
            and found.member.state is MemberState.ALIVE
            and found.applied_index is not None  # it answers, and has the cluster's state
        )

    with tap_on(lab.plan) as tap, booted(disk, seed, tap, console) as machine:
        try:
            until(member, JOIN_SECONDS, f"{NAME} is a member")
        except AssertionError as error:
            raise AssertionError(f"{error}; its console: {console.read_text()[-1500:]}") from None
        until(lambda: erased(seed), JOIN_SECONDS, "the seed's secrets are erased")


def debugfs(request: str, root: str) -> str:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    done = subprocess.run(
        ["debugfs", "-R", request, root], env=os.environ | {"PATH": path}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    return done.stdout


def erased(seed: Path) -> bool:
    """Whether no private key is left anywhere on the disk."""
    listed = subprocess.run(["mdir", "-b", "-i", seed, "::pki"], capture_output=True, text=True)
    return ".pem" not in listed.stdout and b"PRIVATE KEY" not in seed.read_bytes()
