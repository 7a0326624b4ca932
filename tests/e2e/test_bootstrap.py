"""Bootstrap on real hosts: checked, refused, killed at every phase, finished, repeated, locked.

The tests build on each other, from bare hosts to a cluster, in the order they stand here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sappers.assembly.images import LocalImages
from sappers.config import ControlHome
from sappers.lab.lab import Lab
from tests.e2e.conftest import Deploy, OnHost
from tests.e2e.noise_image import make_image, noise

pytestmark = pytest.mark.timeout(900)

# What a run says when it is at a point worth killing it at, from the first phase to the last.
KILL_POINTS = (
    "connect    ok",
    "Setting up",  # dpkg is at work
    "packages   changed",
    "identity   changed",
    "sending",
    "unpacking",
    "agent      changed",
    "start      changed",
    "cluster    ok",
)
SECOND_RUN_SECONDS = 30.0  # `make bench` measures it


@pytest.fixture(scope="module", autouse=True)
def image(home: ControlHome) -> str:
    """One that bootstrap gives to the cluster."""
    return make_image(LocalImages(home), "ballast", noise(2))


@pytest.fixture(scope="module")
def inventory(lab: Lab) -> Path:
    return lab.inventory


@pytest.fixture(scope="module")
def bootstrap_command(home: ControlHome, inventory: Path) -> tuple[list[str], dict[str, str]]:
    program = Path(sys.executable).with_name("sappers-deploy")
    environment = os.environ | {
        "SAPPERS_HOME": str(home.data),
        "SAPPERS_CACHE": str(home.cache),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(home.data),  # tells its processes from those of other runs
    }
    return [str(program), "bootstrap", str(inventory)], environment


def traces(lab: Lab, on_host: OnHost) -> list[str]:
    """What bootstrap would leave on the hosts."""
    wanted = "ls -d /var/lib/sappers /opt/sappers /etc/systemd/system/sappers* 2>/dev/null; true"
    packages = "dpkg-query -W qemu-system-x86 2>/dev/null; ls /etc/apt/apt.conf.d"
    return [on_host(lab, name, f"{wanted}; {packages}").stdout for name in names(lab)]


def names(lab: Lab) -> list[str]:
    return [host.name for host in lab.status().hosts]


def address_of(lab: Lab, name: str) -> str:
    return next(host.address for host in lab.status().hosts if host.name == name)


def nobody(lab: Lab) -> str:
    """An address of the lab's subnet that no host has."""
    return lab.status().hosts[0].address.rpartition(".")[0] + ".200"


def test_check_changes_nothing(lab, deploy: Deploy, on_host: OnHost, inventory):
    before = traces(lab, on_host)
    done = deploy("bootstrap", str(inventory), "--check", "-o", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["changed"] is True
    changes = [c for phase in told["hosts"][names(lab)[0]]["phases"] for c in phase["changes"]]
    assert any("qemu-system-x86" in one for one in changes)
    assert "agent started" in changes
    assert "image ballast" in changes
    for name in ("pki/key.pem", "pki/cert.pem", "pki/ca.pem", "gossip.key", "hub.seed"):
        assert f"file /var/lib/sappers/{name}" in changes
    assert traces(lab, on_host) == before


def test_all_problems_of_all_hosts_at_once(lab, deploy: Deploy, on_host: OnHost, inventory):
    first, second, third = names(lab)
    on_host(
        lab, first, "systemd-run --unit=squatter python3 -m http.server --bind 127.0.0.1 4222"
    ).check_returncode()
    deadline = time.monotonic() + 90
    while "4222" not in on_host(lab, first, "ss -ltn").stdout:
        assert time.monotonic() < deadline
    crooked = inventory.with_name("crooked.ini")
    text = inventory.read_text().replace(
        f"{second} ansible", f"{second} ansible_user=plain ansible"
    )
    crooked.write_text(
        text.replace(f"ansible_host={address_of(lab, third)}", f"ansible_host={nobody(lab)}")
    )
    done = deploy("bootstrap", str(crooked), "--check", "-o", "json")
    on_host(lab, first, "systemctl stop squatter")
    crooked.unlink()
    assert done.returncode == 2
    problems = {
        problem["host"]: problem["message"] for problem in json.loads(done.stdout)["problems"]
    }
    assert "port 4222" in problems[first]
    assert "python3" in problems[first]
    assert "root" in problems[second]
    assert third in problems


@pytest.fixture(scope="module")
def killed(bootstrap_command) -> Iterator[list[str]]:
    """Runs, each killed at the next point; what was reached."""
    reached = []
    command, environment = bootstrap_command
    for point in KILL_POINTS:
        run = subprocess.Popen(
            [*command, "-v"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert run.stdout is not None
        for line in run.stdout:
            if point in line:
                run.send_signal(signal.SIGKILL)
                reached.append(point)
                break
        run.communicate()
    yield reached


def test_killed_at_each_phase_the_next_run_finishes(killed, lab, deploy: Deploy, inventory, image):
    assert killed == list(KILL_POINTS)
    done = deploy("bootstrap", str(inventory), "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["problems"] == []
    status = told["status"]
    assert len(status["members"]) == len(names(lab))
    assert status["leader_id"] is not None
    assert {member["hub"] for member in status["members"]} == {"running"}
    listed = deploy("image", "ls", "--cluster", status["cluster"], "-o", "json")
    (ballast,) = json.loads(listed.stdout)["images"]
    assert ballast["digest"] == image
    assert [one["chunks"] for one in ballast["members"]] == [2, 2, 2]


def test_nothing_stays_of_the_killed_runs(home):
    mine = f"{home.data}/sappers-apt-"
    deadline = time.monotonic() + 90
    while mine in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert list(home.data.glob("sappers-apt-*")) == []


def test_no_setting_of_apt_stays(lab, on_host: OnHost):
    for name in names(lab):
        found = on_host(lab, name, "grep -ril proxy /etc/apt; true")
        assert found.stdout == ""


def test_private_keys_are_private_and_differ(lab, home, on_host: OnHost):
    keys = set()
    for name in names(lab):
        command = "stat -c %a /var/lib/sappers/pki/key.pem; cat /var/lib/sappers/pki/key.pem"
        mode, _, key = on_host(lab, name, command).stdout.partition("\n")
        assert mode == "600"
        keys.add(key)
    assert len(keys) == len(names(lab))
    kept = [path.read_bytes() for path in home.data.rglob("*.key")]
    assert not keys & {content.decode() for content in kept}


def test_a_second_run_changes_nothing_and_is_quick(deploy: Deploy, inventory):
    began = time.monotonic()
    done = deploy("bootstrap", str(inventory), "-o", "json")
    seconds = time.monotonic() - began
    assert done.returncode == 0
    assert json.loads(done.stdout)["changed"] is False
    assert seconds <= SECOND_RUN_SECONDS


def test_the_second_of_two_runs_learns_who_works(lab, deploy: Deploy, on_host, bootstrap_command):
    on_host(lab, names(lab)[0], "echo > /var/lib/sappers/started-with").check_returncode()
    command, environment = bootstrap_command
    with subprocess.Popen(
        [*command, "-v"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as first:
        assert first.stdout is not None
        next(line for line in first.stdout if "identity" in line)
        first.send_signal(signal.SIGSTOP)  # it is not done before the second one looks
        second = deploy(*command[1:])
        first.send_signal(signal.SIGCONT)
        first.stdout.read()
    assert first.returncode == 0
    assert second.returncode == 1
    assert f"pid {first.pid}" in second.stderr


def test_an_interrupted_run_says_what_to_do_and_blames_no_host(lab, bootstrap_command):
    command, environment = bootstrap_command
    with subprocess.Popen(
        [*command, "--forks", "1", "-v"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        next(line for line in run.stdout if "connect" in line)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate()
    assert run.returncode == 130
    assert "run it again" in err
    assert "Traceback" not in err
    assert "unreachable" not in out


def test_a_dead_host_does_not_hold_up_the_others(lab, deploy: Deploy, inventory, tmp_path):
    name = names(lab)[2]
    address = address_of(lab, name)
    elsewhere = tmp_path / inventory.name  # the same name, so the same cluster
    text = inventory.read_text().replace(f"ansible_host={address}", f"ansible_host={nobody(lab)}")
    elsewhere.write_text(text.replace(f"{name} ", f"{name} sappers_address={address} "))
    done = deploy("bootstrap", str(elsewhere), "-o", "json")
    assert done.returncode == 4
    hosts = json.loads(done.stdout)["hosts"]
    assert hosts[name]["unreachable"] == 1
    for other in names(lab)[:2]:
        assert hosts[other]["ok"] >= 6
        outcomes = {phase["title"]: phase["outcome"] for phase in hosts[other]["phases"]}
        assert outcomes["cluster"] == "ok"


def test_a_host_of_another_cluster_is_left_alone(lab, deploy: Deploy, inventory):
    other = inventory.with_name("other.ini")
    other.write_text(inventory.read_text() + "\n[all:vars]\nsappers_cluster=another\n")
    done = deploy("bootstrap", str(other), "-o", "json")
    other.unlink()
    assert done.returncode == 2
    messages = [problem["message"] for problem in json.loads(done.stdout)["problems"]]
    assert sum("it is a member of cluster" in message for message in messages) == len(names(lab))


def test_wrong_use_ends_with_64(deploy: Deploy, inventory):
    assert deploy("bootstrap").returncode == 64
    assert deploy("bootstrap", str(inventory), "--forks", "0").returncode == 64
