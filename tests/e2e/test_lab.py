"""The lab on this machine's real kernel: what its hosts are, and that nothing of it stays."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest

from sappers.config import ControlHome
from sappers.errors import LabError, LockHeld
from sappers.lab.control_group import hierarchy
from sappers.lab.lab import Lab
from sappers.lab.lock import folder_lock
from tests.e2e.conftest import LAB_NAME, Deploy, OnHost

OWN_NAME = f"{LAB_NAME}-own"
PLAIN_NAME = f"{LAB_NAME}-plain"


@pytest.fixture(scope="module")
def lab(home: ControlHome) -> Iterator[Lab]:
    """Three hosts as the lab makes them, where nobody has been before."""
    with torn_down(Lab(PLAIN_NAME, home)) as plain:
        plain.up(3)
        yield plain


@pytest.fixture(scope="module")
def second(home: ControlHome, lab: Lab) -> Iterator[Lab]:
    """A lab beside that of the session."""
    with torn_down(Lab(OWN_NAME, home)) as second:
        yield second


@pytest.fixture
def own(second: Lab) -> Lab:
    """The lab to break: whole at the beginning, whatever the test before did to it."""
    second.up(2)
    second.mend()
    return second


@contextmanager
def torn_down(lab: Lab) -> Iterator[Lab]:
    try:
        yield lab
    finally:
        lab.down()


def printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def traces(lab: Lab) -> set[str]:
    """Everything on this machine that carries the lab's names, addresses, folder or mark."""
    machine = f"{lab.plan.name}-[0-9]*"
    subnet = lab.plan.subnet.removesuffix("0/24")
    found = {str(path) for path in Path("/run/systemd/nspawn/propagate").glob(machine)}
    for tree in (hierarchy(), hierarchy().parent / "systemd"):
        found |= {str(path) for path in tree.rglob(f"{lab._mark}-*")}
    if lab.folder.exists():
        found.add(str(lab.folder))
    places = Path("/proc/self/mountinfo").read_text() + printed("ps", "-eo", "args")
    network = printed("ip", "-o", "link") + printed("ip", "-o", "addr") + printed("ip", "route")
    marks = (str(lab.folder), lab.plan.bridge, f"vb-{lab.plan.name}-", subnet)
    return found | {
        line for line in (places + network).splitlines() if any(m in line for m in marks)
    }


def machine_network() -> dict[str, object]:
    """What a lab must not touch."""
    links = json.loads(printed("ip", "-j", "addr"))
    return {
        "links": [link for link in links if not link["ifname"].startswith(("sap-", "vb-"))],
        "routes": [r for r in json.loads(printed("ip", "-j", "route")) if "10.77." not in r["dst"]],
        "forward": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "firewall": printed("nft", "list", "ruleset"),
    }


def test_hosts_are_up_and_known_by_their_keys(lab: Lab, on_host: OnHost):
    for number, host in enumerate(lab.status().hosts, start=1):
        assert (host.name, host.state) == (f"{PLAIN_NAME}{number}", "up")
        for user in ("root", "admin", "plain"):
            answer = on_host(lab, host.name, "id -un; hostname", user=user)
            assert answer.stdout.split() == [user, host.name], answer.stderr


def test_a_host_with_another_key_is_refused(lab: Lab, tmp_path: Path):
    one, other = lab.status().hosts[:2]
    keys = dict(line.split(" ", 1) for line in lab.known_hosts.read_text().splitlines())
    wrong = tmp_path / "known_hosts"
    wrong.write_text(f"{one.address} {keys[f'{other.name},{other.address}']}\n")
    command = [
        part.replace(str(lab.known_hosts), str(wrong))
        for part in lab.ssh_command(one.name, ("id",))
    ]
    answer = subprocess.run(command, stdin=DEVNULL, capture_output=True, text=True, check=False)
    assert answer.returncode == 255
    assert "Host key verification failed" in answer.stderr


def test_only_admin_may_become_root(lab: Lab, on_host: OnHost):
    host = f"{PLAIN_NAME}1"
    assert on_host(lab, host, "sudo -n id -u", user="admin").stdout == "0\n"
    assert on_host(lab, host, "sudo -n id -u", user="plain").returncode == 1


def test_systemd_runs_without_a_failed_unit(lab: Lab, on_host: OnHost):
    answer = on_host(
        lab, f"{PLAIN_NAME}1", "systemctl is-system-running --wait; systemctl --failed"
    )
    assert answer.stdout.startswith("running\n"), answer.stdout


def test_a_host_is_a_plain_server_with_python_and_without_ours(lab: Lab, on_host: OnHost):
    python = "import sys, ssl, sqlite3; print(sys.version_info >= (3, 11))"
    answer = on_host(lab, f"{PLAIN_NAME}1", f"python3 -c '{python}'; ls /usr/bin | grep -c qemu")
    assert answer.stdout.split() == ["True", "0"], answer.stderr


def test_hosts_see_each_other_and_the_control_machine_and_nothing_else(lab: Lab, on_host: OnHost):
    def reaches(address: str, seconds: int = 1) -> bool:
        ping = f"ping -c1 -W{seconds} {address}"
        return on_host(lab, f"{PLAIN_NAME}1", ping).returncode == 0

    for name in (f"{PLAIN_NAME}2", f"{PLAIN_NAME}3", "control"):
        assert reaches(name, seconds=30)
    assert on_host(lab, f"{PLAIN_NAME}1", "ip route show default").stdout == ""
    for link in json.loads(printed("ip", "-j", "-4", "addr", "show", "scope", "global")):
        if not link["ifname"].startswith("sap-"):
            assert not reaches(link["addr_info"][0]["local"])


def test_taps_bridges_and_units_can_be_made_inside(lab: Lab, on_host: OnHost):
    command = """set -e
    ip link add try0 type bridge
    ip tuntap add try1 mode tap
    ip link set try1 master try0 up
    ip link del try1; ip link del try0
    systemd-run --quiet --wait --unit=try -p MemoryMax=100M -p DynamicUser=yes -p PrivateTmp=yes \\
        -p ProtectSystem=strict -p ProtectHome=yes -p NoNewPrivileges=yes true
    test -c /dev/net/tun"""
    answer = on_host(lab, f"{PLAIN_NAME}1", command)
    assert answer.returncode == 0, answer.stderr


def test_debian_packages_come_from_the_archives_this_machine_uses(lab: Lab, on_host: OnHost):
    listed = on_host(
        lab, f"{PLAIN_NAME}1", "cat /etc/apt/sources.list.d/*.list"
    ).stdout.splitlines()
    suites = [line.split()[2] for line in listed]
    assert "bookworm" in suites
    assert all(line.endswith(" main") for line in listed)


def test_labs_side_by_side_do_not_meet(lab: Lab, own: Lab, on_host: OnHost):
    assert {host.state for host in lab.status().hosts + own.status().hosts} == {"up"}
    stranger = lab.status().hosts[0].address
    answer = on_host(own, f"{OWN_NAME}1", f"ping -c1 -W1 {stranger}")
    assert answer.returncode != 0


def test_a_killed_host_keeps_its_disk_and_identity(own: Lab, on_host: OnHost):
    host = f"{OWN_NAME}1"
    identity = "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub"
    before = on_host(own, host, f"{identity}; echo here > /root/mark; sync").stdout
    own.kill_host(host)
    assert [status.state for status in own.status().hosts] == ["off", "up"]
    own.start_host(host)
    after = on_host(own, host, f"{identity}; cat /root/mark").stdout
    assert after == f"{before}here\n"


def test_a_host_comes_back_at_another_address(own: Lab, on_host: OnHost):
    host, neighbour = own.status().hosts
    address = str(own.plan.network[200])
    with pytest.raises(LabError, match="runs at"):
        own.start_host(host.name, address=address)
    own.kill_host(host.name)
    with pytest.raises(LabError, match=f"{neighbour.name}'s address"):
        own.start_host(host.name, address=neighbour.address)
    own.start_host(host.name, address=address)
    assert address in on_host(own, host.name, "ip -4 addr show host0").stdout
    assert f"{host.name} ansible_host={address}" in own.inventory.read_text()
    own.kill_host(host.name)
    own.start_host(host.name, address=host.address)


def test_a_paused_host_stands_still_and_goes_on(own: Lab, on_host: OnHost):
    host = f"{OWN_NAME}1"
    booted = on_host(
        own, host, "cat /proc/sys/kernel/random/boot_id; systemctl show -p KernelTimestamp"
    )
    own.pause_host(host)
    assert own.status().hosts[0].state == "paused"
    own.resume_host(host)
    assert (
        on_host(
            own, host, "cat /proc/sys/kernel/random/boot_id; systemctl show -p KernelTimestamp"
        ).stdout
        == booted.stdout
    )


def test_a_partition_cuts_hosts_from_each_other_but_not_from_us(own: Lab, on_host: OnHost):
    one, other = (host.name for host in own.status().hosts)
    ping = f"ping -c1 -W1 {other}"
    own.partition([one], [other])
    assert on_host(own, one, ping).returncode == 1
    own.mend()
    assert on_host(own, one, f"ping -c1 -W30 {other}").returncode == 0


def test_up_with_nothing_to_do_restarts_nothing(own: Lab, on_host: OnHost):
    uptime = "systemctl show --property=UserspaceTimestampMonotonic"
    before = on_host(own, f"{OWN_NAME}1", uptime).stdout
    own.up()
    assert on_host(own, f"{OWN_NAME}1", uptime).stdout == before


def test_up_grows_a_lab(own: Lab):
    assert [host.state for host in own.up(3).hosts] == ["up"] * 3


def test_down_leaves_nothing_and_touches_nothing_else(home: ControlHome, deploy: Deploy):
    lab = Lab(f"{LAB_NAME}-gone", home)
    network = machine_network()
    with torn_down(lab):
        assert traces(lab) == set()
        assert deploy("lab", "up", "--hosts", "2", "--name", lab.plan.name).returncode == 0
        assert len(traces(lab)) > 10
        assert machine_network() == network
        assert deploy("lab", "down", "--name", lab.plan.name).returncode == 0
        assert traces(lab) == set()
        assert machine_network() == network
        assert deploy("lab", "down", "--name", lab.plan.name).returncode == 0


def test_up_finishes_what_was_interrupted_at_any_point(home: ControlHome, deploy: Deploy):
    name = f"{LAB_NAME}-cut"
    program = Path(sys.executable).with_name("sappers-deploy")
    environment = {"SAPPERS_HOME": str(home.data), "SAPPERS_CACHE": str(home.cache)}
    lab = Lab(name, home)
    for milliseconds in range(300, 1300, 200):
        with torn_down(lab):
            cut = subprocess.Popen(
                [program, "lab", "up", "--hosts", "2", "--name", name],
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
                stdin=DEVNULL, stdout=PIPE, stderr=PIPE,
            )  # fmt: skip
            time.sleep(milliseconds / 1000)  # the moment of the cut is the test's input
            cut.send_signal(signal.SIGKILL)
            cut.communicate()
            if milliseconds % 400:
                assert {host.state for host in lab.up(2).hosts} == {"up"}
        assert traces(lab) == set()


def test_a_lab_whose_machine_went_down_comes_back(own: Lab, on_host: OnHost):
    on_host(own, f"{OWN_NAME}1", "echo here > /root/reboot; sync")
    for host in own.status().hosts:
        own.kill_host(host.name)
    printed("ip", "link", "del", own.plan.bridge)
    assert {host.state for host in own.status().hosts} == {"off"}
    own.up()
    assert on_host(own, f"{OWN_NAME}1", "cat /root/reboot").stdout == "here\n"


def test_down_works_without_record_and_without_folder(home: ControlHome):
    lab = Lab(f"{LAB_NAME}-lost", home)
    with torn_down(lab):
        lab.up(1)
        (lab.folder / "lab.json").write_text("{")
        with pytest.raises(LabError, match="damaged"):
            lab.up()
        lab.down()
        assert traces(lab) == set()
        lab.up(1)
        printed("umount", "--lazy", str(next(lab.folder.glob("hosts/*/root"))))
        shutil.rmtree(lab.folder)
        lab.down()
        assert traces(lab) == set()


def test_a_bridge_of_somebody_else_is_left_alone(home: ControlHome):
    lab = Lab(f"{LAB_NAME}-br", home)
    printed("ip", "link", "add", lab.plan.bridge, "type", "bridge")
    try:
        with torn_down(lab), pytest.raises(LabError, match="is not this lab's"):
            lab.up(1)
        assert printed("ip", "link", "show", lab.plan.bridge)
    finally:
        printed("ip", "link", "del", lab.plan.bridge)


def test_a_subnet_in_use_is_not_taken(home: ControlHome):
    lab = Lab(f"{LAB_NAME}-sub", home)
    printed("ip", "link", "add", f"{lab.plan.bridge}-x"[:15], "type", "bridge")
    try:
        device = f"{lab.plan.bridge}-x"[:15]
        printed("ip", "address", "add", f"{lab.plan.network[7]}/28", "dev", device)
        with torn_down(lab), pytest.raises(LabError, match=f"in use by {device}"):
            lab.up(1)
    finally:
        printed("ip", "link", "del", f"{lab.plan.bridge}-x"[:15])


def test_two_at_once_on_one_lab(own: Lab, deploy: Deploy):
    with folder_lock(own.folder, "the lab"):
        with pytest.raises(LockHeld):
            own.up()
        answer = deploy("lab", "down", "--name", OWN_NAME)
    assert answer.returncode == 1
    assert "is locked by process" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_command_shows_and_reaches_hosts(lab: Lab, deploy: Deploy):
    status = deploy("lab", "status", "--name", PLAIN_NAME, "-o", "json")
    assert [host["state"] for host in json.loads(status.stdout)["hosts"]] == ["up"] * 3
    assert f"{PLAIN_NAME}2" in deploy("lab", "status", "--name", PLAIN_NAME).stdout
    shell = deploy(
        "lab", "ssh", "--name", PLAIN_NAME, f"{PLAIN_NAME}2", "--", "echo", "a  b", ";", "exit 3"
    )
    assert shell.stdout == "a  b ; exit 3\n"
    assert (
        deploy("lab", "ssh", "--name", PLAIN_NAME, f"{PLAIN_NAME}2", "--", "false").returncode == 1
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("up", "--name", "No"), "not usable"),
        (("up", "--name", f"{LAB_NAME}-n", "--hosts", "1000"), "1 to 150"),
        (("ssh", "--name", f"{LAB_NAME}-n", "x1"), "there is no lab"),
        (("ssh", "--name", PLAIN_NAME, "nobody"), "has no host 'nobody'"),
    ],
)
def test_bad_input_is_told_in_a_sentence(
    lab: Lab, deploy: Deploy, arguments: tuple[str, ...], said: str
):
    answer = deploy("lab", *arguments)
    assert answer.returncode == 1
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
