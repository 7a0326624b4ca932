"""Bad input: a clear error that names the host and what to do, nothing half done, nobody let in.

On hosts of a lab of their own, which never become a cluster.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sappers.config import ControlHome
from sappers.lab.lab import Lab
from tests.e2e.conftest import LAB_NAME, Deploy, OnHost
from tests.e2e.lab_cluster import no_traceback, one_line

SENTINEL = "the-cluster-before"


@pytest.fixture(scope="module")
def bare(home: ControlHome) -> Iterator[Lab]:
    """Two hosts that nothing was done to."""
    lab = Lab(f"{LAB_NAME}-bare", home)
    try:
        lab.up(2)
        yield lab
    finally:
        lab.down()


@pytest.fixture(autouse=True)
def nothing_half_done(bare: Lab, home: ControlHome, on_host: OnHost) -> Iterator[None]:
    """What a failed command must leave alone: bare hosts, and which cluster is the last one."""
    before = home.last_cluster.read_text() if home.last_cluster.exists() else None
    home.last_cluster.write_text(f"{SENTINEL}\n")
    yield
    assert home.last_cluster.read_text() == f"{SENTINEL}\n"
    home.last_cluster.unlink()
    if before is not None:
        home.last_cluster.write_text(before)
    for host in bare.status().hosts:
        left = on_host(
            bare,
            host.name,
            "ls -d /var/lib/sappers /opt/sappers /etc/systemd/system/sappers* 2>/dev/null;"
            " dpkg-query -W qemu-system-x86 2>/dev/null; grep -ril proxy /etc/apt; true",
        )
        assert left.stdout == "", left


def write_inventory(bare: Lab, path: Path, *rows: str) -> Path:
    path.write_text(
        "\n".join(
            (
                *rows,
                "[all:vars]",
                "ansible_user=root",
                f"ansible_ssh_private_key_file={bare.key}",
                f"ansible_ssh_common_args='-o UserKnownHostsFile={bare.known_hosts}'",
            )
        )
    )
    return path


def problems_of(deploy: Deploy, path: Path, exit_code: int) -> dict[str, dict[str, Any]]:
    """What a bootstrap that must fail says of each host."""
    done = deploy("bootstrap", str(path), "-o", "json")
    assert done.returncode == exit_code, done.stdout + done.stderr
    no_traceback(done.stdout + done.stderr)
    return {one["host"]: one for one in json.loads(done.stdout)["problems"]}


def test_hosts_that_cannot_be_reached_each_say_why(bare: Lab, deploy: Deploy, tmp_path: Path):
    first, second = bare.status().hosts
    nobody_there = first.address.rpartition(".")[0] + ".250"
    wrong_key, empty, changed = tmp_path / "key", tmp_path / "empty", tmp_path / "changed"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", wrong_key], check=True)
    empty.touch()
    keys = dict(line.split(" ", 1) for line in bare.known_hosts.read_text().splitlines())
    of_second = next(key for names, key in keys.items() if second.address in names)
    changed.write_text(f"{first.address} {of_second}\n")
    ways = {
        "ghost": nobody_there,
        "wrongkey": f"{first.address} ansible_ssh_private_key_file={wrong_key}",
        "unknown": f"{first.address} ansible_ssh_common_args='-o UserKnownHostsFile={empty}'",
        "changed": f"{first.address} ansible_ssh_common_args='-o UserKnownHostsFile={changed}'",
        "closed": f"{second.address} ansible_port=2222",
    }
    path = write_inventory(
        bare,
        tmp_path / "unreachable.ini",
        *(
            f"{name} sappers_address=192.0.2.{number} ansible_host={way}"
            for number, (name, way) in enumerate(ways.items(), start=1)
        ),
    )
    told = problems_of(deploy, path, 4)
    expected = {
        "ghost": nobody_there,
        "wrongkey": "user root is refused",
        "unknown": "is not known",
        "changed": "has changed",
        "closed": "nothing listens there",
    }
    for host, words in expected.items():
        assert words in told[host]["message"], told[host]
        assert told[host]["hint"], told[host]
    assert empty.read_text() == ""


def test_a_name_that_nobody_knows(bare: Lab, deploy: Deploy, tmp_path: Path):
    first = bare.status().hosts[0]
    path = write_inventory(
        bare,
        tmp_path / "nameless.ini",
        "nowhere ansible_host=no-such-host.invalid",
        f"here ansible_host={first.address}",
    )
    done = deploy("bootstrap", str(path), "--check")
    assert done.returncode != 0
    text = one_line(done.stdout + done.stderr)
    assert "nowhere" in text
    assert "no-such-host.invalid" in text
    no_traceback(text)


def test_a_host_that_refuses_sudo(bare: Lab, deploy: Deploy, tmp_path: Path):
    first, second = bare.status().hosts
    path = write_inventory(
        bare,
        tmp_path / "sudo.ini",
        f"plain ansible_host={first.address} ansible_user=plain ansible_become=true",
        f"noroot ansible_host={second.address} ansible_user=plain",
    )
    told = problems_of(deploy, path, 2)
    assert "sudo" in told["plain"]["message"]
    assert told["plain"]["hint"]
    assert "not root" in told["noroot"]["message"]
    assert "ansible_become" in told["noroot"]["hint"]


def test_a_host_without_room(bare: Lab, deploy: Deploy, on_host: OnHost, tmp_path: Path):
    first = bare.status().hosts[0]
    on_host(bare, first.name, "mount -t tmpfs -o size=50m full /opt").check_returncode()
    path = write_inventory(bare, tmp_path / "full.ini", f"full ansible_host={first.address}")
    told = problems_of(deploy, path, 2)
    on_host(bare, first.name, "umount /opt").check_returncode()
    assert "/opt has 50 MiB free" in told["full"]["message"]
    assert told["full"]["hint"]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("[voters\nlab1\n", ":1:1: ", "malformed section"),
        ("lab1 ansible_port='22\n", ":1", "quot"),
        ("[all:vars]\nnonsense\n", ":2:1: ", "key=value"),
        ("[a:children]\nnobody\n", ":2", "nobody"),
        ("lab1 ansible_port=many\n", "", "ansible_port"),
        ("", "", "no host"),
    ],
)
def test_a_malformed_inventory_says_where(
    deploy: Deploy, tmp_path: Path, text: str, place: str, words: str
):
    path = tmp_path / "bad.ini"
    path.write_text(text)
    done = deploy("bootstrap", str(path))
    assert done.returncode == 1, done
    assert done.stderr.startswith("error: "), done.stderr
    assert f"{path}{place}" in done.stderr
    assert words in done.stderr.lower()
    no_traceback(done.stderr)


def test_an_inventory_that_is_none(deploy: Deploy, tmp_path: Path):
    for path in (tmp_path / "missing.ini", tmp_path):
        done = deploy("bootstrap", str(path))
        assert done.returncode == 1, done
        assert str(path) in done.stderr
        no_traceback(done.stderr)


def test_hosts_that_a_limit_does_not_find(bare: Lab, deploy: Deploy):
    done = deploy("bootstrap", str(bare.inventory), "--limit", "nonesuch")
    assert done.returncode == 1, done
    assert "nonesuch" in done.stderr


def test_a_cluster_that_is_not_there(bare: Lab, deploy: Deploy):
    unknown = deploy("status", "--cluster", "nonesuch")
    assert unknown.returncode == 1
    assert "nonesuch" in unknown.stderr
    for command in (("status",), ("ps",), ("stop", "x"), ("logs", "x")):
        done = deploy(*command)  # the last cluster's folder is gone
        assert done.returncode == 1, done
        assert SENTINEL in done.stderr
        no_traceback(done.stderr)
