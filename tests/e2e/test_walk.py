"""The walk that a user takes, step by step, with `sappers` by hand: agents, NATS, Consul, guests.

All on one machine with a network of its own, every command as it is typed. The steps are the
twelve of the mission and build on each other. `SAPPERS_WALKTHROUGH=docs/walkthrough.md` writes down
what they printed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sappers
from sappers.config import control_home
from sappers.errors import ImageError
from sappers.images import ops
from tests.consul_agents import consul_program
from tests.e2e.walk_machine import ADDRESS, Machine
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)

PROJECT = Path(sappers.__file__).parents[1]
KEYS = "./raft/cluster"
CONSUL = "http://127.0.0.1:8500/v1"
# Consul's answer, one check a line.
ONE_A_LINE = """python3 -c 'import json, sys
for one in json.load(sys.stdin): print(one["Status"], one["ServiceID"] or "-", one["Output"])'"""
STATUS = f"sappers-deploy status --cluster {KEYS}"
FORMED_SECONDS = 150.0
GUEST_SECONDS = 500.0
REPAIR_SECONDS = 500.0
INTRODUCTION = """# The walk

What a user does from nothing to a cluster that heals itself, and what was printed. All agents are
on one machine here; on several, the same commands have other addresses in `--peers`.

`tests/e2e/test_walk.py` takes this walk and wrote this page; every output is from that run, with
the paths of its folders written `~`:

    SAPPERS_WALKTHROUGH=docs/walkthrough.md .venv/bin/pytest tests/e2e/test_walk.py
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")
    one = Machine(tmp_path_factory.mktemp("walk"), control_home(os.environ).cache)
    try:
        one.consul = consul_program()
        (one.folder / "bin" / "consul").symlink_to(one.consul)
    except pytest.skip.Exception as skipped:
        one.why_no_consul = str(skipped)
    try:
        one.up()
        yield one
        if target := os.environ.get("SAPPERS_WALKTHROUGH"):
            page = one.page.text.replace(str(one.folder), "~").replace(str(PROJECT), "~/sappers")
            (PROJECT / target).write_text(f"{INTRODUCTION}\n{page}")
    finally:
        one.down()


def start_agent(machine: Machine, number: int, *flags: str) -> None:
    """`nodeN`, at ports of its own; returns once it runs."""
    name = f"node{number}"
    ports = (
        f"--gossip-port {7945 + number} --raft-addr :{11999 + number} "
        f"--http-addr :{10999 + number} "
        if number > 1
        else ""
    )
    begin_again(machine, name, f"--node-id {name} {ports}{' '.join(flags)} ")


def begin_again(machine: Machine, name: str, flags: str = "") -> None:
    log = machine.folder / f"{name}.log"
    said = log.read_text().count('"agent runs"') if log.exists() else 0
    machine.start(f"sappers {flags}./raft/{name}", log.name)
    wait_until(f"{name} runs", lambda: log.read_text().count('"agent runs"') > said, 150)


def status(machine: Machine) -> dict[str, Any]:
    """The cluster as data."""
    return json.loads(machine.run(f"{STATUS} -o json", show=False))


def whole(machine: Machine, *names: str) -> dict[str, Any]:
    """The cluster once these members are all, alive, on one index, and have their hub."""

    def look() -> dict[str, Any]:
        view = status(machine)
        members = {one["member"]["name"]: one for one in view["members"]}
        alive = {name for name, one in members.items() if one["member"]["state"] == "alive"}
        assert alive == set(names), members
        assert len({members[name]["applied_index"] for name in names}) == 1, members
        assert {members[one]["hub"] for one in names} <= {"running", "-"}, members
        assert "running" in {members[one]["hub"] for one in names}, members
        return view

    return wait_until(f"{', '.join(names)} are one cluster", look, FORMED_SECONDS)


def require_consul(machine: Machine) -> None:
    if machine.consul is None:
        pytest.skip(machine.why_no_consul)


def passing(machine: Machine, service: str) -> list[Any]:
    """The healthy copies of a service, as Consul has them."""
    answer = machine.run(f"curl -sf '{CONSUL}/health/service/{service}?passing'", show=False)
    return list(json.loads(answer))


def applied(view: dict[str, Any], name: str) -> int:
    """How far a member has come."""
    found = next(one for one in view["members"] if one["member"]["name"] == name)
    return int(found["applied_index"])


def leader_of(view: dict[str, Any]) -> str:
    return str(view["leader_id"])


def pid_of(machine: Machine, name: str) -> int:
    """The agent's process, as STATE_DIR says."""
    return int(json.loads((machine.folder / "raft" / name / "agent.lock").read_text())["pid"])


def logged(machine: Machine, name: str, pattern: str) -> str:
    """The first line of an agent's log that fits."""
    command = f"grep -m1 {pattern!r} {name}.log"
    return machine.run(command)


def test_01_install_it(machine: Machine) -> None:
    machine.page.step(
        "1. Install it", "In a checkout: `make setup`. Here it found everything there."
    )
    subprocess.run([PROJECT / "tools" / "setup", "--no-links"], check=True, timeout=500)
    assert machine.run("sappers --version").startswith("sappers ")
    assert "--bootstrap" in machine.run("sappers --help", show=False)


def test_02_start_consul_and_node1(machine: Machine) -> None:
    machine.page.step("2. Start `node1` with `--bootstrap 3`")
    if machine.consul is not None:
        machine.page.say("Consul, in its development mode, is there before it:")
        machine.start("consul agent -dev -log-level warn", "consul.log")
        wait_until(
            "Consul leads",
            lambda: '"' in machine.run(f"curl -sf {CONSUL}/status/leader", show=False),
            150,
        )
    start_agent(machine, 1, "--bootstrap 3")
    machine.page.say("It made the cluster's keys, and waits for two more:")
    assert "ca.key" in machine.run(f"ls {KEYS}")
    logged(machine, "node1", "agent runs")
    machine.run(STATUS, code=5)


def test_03_start_node2_and_node3(machine: Machine) -> None:
    machine.page.step("3. Start `node2`, `node3`: the cluster forms and elects a leader")
    began = time.monotonic()
    for number in (2, 3):
        start_agent(machine, number, "--peers 127.0.0.1:7946")
    view = whole(machine, "node1", "node2", "node3")
    machine.page.say(f"{time.monotonic() - began:.1f} s later there is a cluster:")
    machine.run(STATUS)
    logged(machine, "node1", "founding the cluster")
    assert view["has_quorum"]
    assert sorted(view["electorate"]) == ["node1", "node2", "node3"]


def test_04_launch_a_nanovm(machine: Machine) -> None:
    machine.page.step("4. Launch a nano-VM application from an image")
    kind, flag = "nanos", "--launch-nanovm"
    try:
        ops.find_kernel(os.environ)
        ops.find_ops(os.environ, control_home(os.environ).cache / "tools", lambda _: None)
    except ImageError as error:
        kind, flag = "microvm", "--launch-microvm"
        machine.page.say(f"No unikernel can be built here ({error.message}): a micro-VM instead.")
    machine.run(f"sappers-deploy image build hello --kind {kind}", seconds=800)
    image = "hello-nanos" if kind == "nanos" else "hello"
    machine.run(f"sappers-deploy image export {image} my-app.image")
    began = time.monotonic()
    printed = machine.run(
        f"sappers {flag} my-app --vm-image my-app.image --consul-service my-app "
        "--service-port 8080 ./raft/node1",
        seconds=GUEST_SECONDS,
    )
    seconds = time.monotonic() - began
    url = re.search(rf"http://{re.escape(ADDRESS)}:\d+", printed)
    assert url, printed
    machine.page.say(f"It took {seconds:.1f} s until it was healthy. It answers:")
    assert "hello" in machine.run(f"curl -s {url[0]}/").lower()


def test_05_consul_lists_it_and_the_gateway_reaches_it(machine: Machine) -> None:
    require_consul(machine)
    machine.page.step(
        "5. `consul catalog services` lists it with its health; a request to the gateway on port "
        "8080 under `/my-app` reaches it"
    )

    def registered() -> bool:
        return "my-app" in machine.run("consul catalog services", show=False)

    wait_until("my-app is in the catalogue", registered, 150)
    machine.run("consul catalog services")
    wait_until("its check passes", lambda: passing(machine, "my-app"), 150)
    machine.run(f"curl -s {CONSUL}/health/checks/my-app | {ONE_A_LINE}")
    if shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("no gateway: HAProxy is not installed")

    def through(port: int) -> str:
        url = f"http://{ADDRESS}:{port}/my-app"
        wait_until(f"{url} answers", lambda: machine.run(f"curl -sf {url}", show=False), 150)
        return machine.run(f"curl -s {url}").lower()

    assert "hello" in through(8080)
    machine.page.say("Each member has a gateway; node2's is moved along with its other ports:")
    assert "hello" in through(8081)


def test_06_see_who_leads_and_kill_it(machine: Machine) -> None:
    machine.page.step("6. See who leads; kill the leader; another leads")
    view = status(machine)
    leader = leader_of(view)
    machine.run(f"{STATUS} | head -1")
    api = (
        f"curl -s --cacert {KEYS}/ca.pem --cert {KEYS}/operator.pem --key {KEYS}/operator.key "
        f"--connect-to agent.sappers:11000:{ADDRESS} https://agent.sappers:11000/v1/status "
        '| grep -o \'"leader_id":"[^"]*"\' | head -1'
    )
    assert f'"{leader}"' in machine.run(api)
    assert f'"{leader}"' in machine.run(f"grep '\"standing\"' {leader}.log | tail -1")
    guests = [one["id"] for one in view["allocations"]]

    machine.run(f"kill -9 {pid_of(machine, leader)}")
    killed = time.monotonic()

    def another() -> str:
        now = status(machine)
        assert now["has_quorum"] and leader_of(now) != leader
        return leader_of(now)

    now = wait_until("another leads", another, 150)
    machine.page.say(
        f"{time.monotonic() - killed:.1f} s later {now} leads. {leader} is started again, "
        "and needs no flags any more:"
    )
    begin_again(machine, leader)
    view = whole(machine, "node1", "node2", "node3")
    machine.run(STATUS)
    assert [one["id"] for one in view["allocations"] if one["id"] in guests] == guests


def test_07_hear_the_cluster_talk(machine: Machine) -> None:
    machine.page.step(
        "7. Subscribe to everything on the NATS hub at 4222 and watch the cluster talk"
    )
    heard = machine.run(f"sappers-deploy listen '>' --count 20 --cluster {KEYS}")
    assert "sappers.log.heartbeat" in heard
    assert "sappers.guest." in heard, "guests push their health"
    machine.page.say("For another client, such as `nats`, the same credentials as a file:")
    machine.run(f"sappers-deploy listen --credentials me.creds --cluster {KEYS}")
    servers = machine.run("grep -hE '\"(host|port)\"' ./raft/node1/hub/server/nats-server.conf")
    assert '"port": 4222' in servers


def test_08_start_node4(machine: Machine) -> None:
    machine.page.step(
        "8. Start `node4`: it finds the cluster by gossip, and takes its state from a snapshot and "
        "the log"
    )
    start_agent(machine, 4, "--peers 127.0.0.1:7948")
    view = whole(machine, "node1", "node2", "node3", "node4")
    machine.page.say("It was told of node3 alone, and knows all:")
    machine.run(STATUS)
    logged(machine, "node4", "started from a snapshot")
    assert applied(view, "node4") > 0


def test_09_fail_a_member(machine: Machine) -> None:
    machine.page.step(
        "9. Fail a member: the leader launches the healer micro-VM, which restores it; the cluster "
        "records each step"
    )
    machine.run("sappers-deploy image build healer --kind microvm", seconds=800)
    machine.run("sappers-deploy image export healer healer.image")
    machine.page.say("The image is the cluster's once it is launched; without a repair it is idle:")
    machine.run(
        "sappers --launch-microvm healer --vm-image healer.image ./raft/node1",
        seconds=GUEST_SECONDS,
    )
    machine.start_sshd()
    machine.page.say("An SSH server runs on the machine. Who wants healers to use it says so:")
    machine.run("sappers --let-healers-in ./raft/node3")
    view = whole(machine, "node1", "node2", "node3", "node4")
    machine.run(f"kill -9 {pid_of(machine, 'node3')}")
    failed = time.monotonic()

    def repair(*statuses: str) -> dict[str, Any]:
        found = [one for one in status(machine)["repairs"] if one["member_id"] == "node3"]
        assert found and found[0]["status"] in statuses, found
        return dict(found[0])

    wait_until("a healer is launched", lambda: repair("assigned", "claimed", "restored"), 150)
    machine.run(STATUS)
    wait_until("the repair is over", lambda: repair("restored", "moved", "failed"), REPAIR_SECONDS)
    machine.page.say(f"{time.monotonic() - failed:.1f} s after it was killed:")
    machine.run(f"sappers-deploy events --cluster {KEYS} | grep -E 'node3|repair'")
    assert repair("restored")
    whole(machine, "node1", "node2", "node3", "node4")
    assert view["cluster_id"] == status(machine)["cluster_id"]


def test_10_trigger_a_snapshot(machine: Machine) -> None:
    machine.page.step("10. Trigger a snapshot; a new member starts from it")
    taken = machine.run("sappers --trigger-snapshot ./raft/node1")
    index = int(taken.split()[-1])
    machine.run("ls -l ./raft/node1/raft")
    start_agent(machine, 5, "--peers 127.0.0.1:7946")
    whole(machine, "node1", "node2", "node3", "node4", "node5")
    machine.page.say("It started from that snapshot, and took what came after it from the log:")
    line = json.loads(logged(machine, "node5", "started from a snapshot"))
    assert line["snapshot"] == index
    assert applied(status(machine), "node5") >= index


def test_11_log_level_and_checks(machine: Machine) -> None:
    machine.page.step(
        "11. Change the log level; read JSON logs; see health checks of every guest in Consul"
    )
    before = len(machine.log("node1.log"))
    machine.run("sappers --log-level DEBUG ./raft/node1")

    def calls() -> bool:
        status(machine)  # which asks one member, which asks the others
        return '"httpx"' in machine.log("node1.log")[before:]

    wait_until("node1 logs its calls", calls, 150)
    machine.run("tail -2 node1.log")
    for name in ("node1", "node2", "node3", "node4", "node5"):
        for line in machine.log(f"{name}.log").splitlines():
            assert {"event", "level", "timestamp"} <= json.loads(line).keys(), line
    machine.run("sappers --log-level INFO ./raft/node1")
    require_consul(machine)
    machine.run(f"curl -s {CONSUL}/health/state/any | {ONE_A_LINE}")


def test_12_all_guests_are_in_the_catalogue(machine: Machine) -> None:
    require_consul(machine)
    machine.page.step("12. All guests, healer included, are in Consul's catalogue")
    machine.run("sappers-deploy image build monitor --kind microvm", seconds=800)
    machine.run("sappers-deploy image export monitor monitor.image")
    machine.run(
        "sappers --launch-microvm monitor --vm-image monitor.image ./raft/node1",
        seconds=GUEST_SECONDS,
    )
    wanted = {one["service"] or one["name"] for one in status(machine)["workloads"]}
    for service in sorted(wanted):
        wait_until(f"{service} passes", lambda name=service: passing(machine, name), 150)
    listed = machine.run("consul catalog services")
    assert wanted <= set(listed.split()), wanted
    machine.run(f"sappers-deploy ps --cluster {KEYS}")
