"""Consul on the hosts of a cluster: installed by bootstrap, told of every guest, closed to others.

The tests build on each other, in the order they stand here. The last one takes Consul away again.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sappers.config import GATEWAY_USER_ID
from sappers.lab.lab import Lab
from tests.e2e.conftest import Deploy
from tests.e2e.lab_cluster import LabCluster, until

pytestmark = pytest.mark.timeout(900)

TITLE = "consul"
# Runs on a host, with the host's own Python; `$1` is the path of a call.
ASK = (
    "import sys, urllib.request as r; "
    "print(r.urlopen('http://127.0.0.1:8500' + sys.argv[1], timeout=30).read().decode())"
)
# The same, with the agent's Python: a service that is reported once, and a minute later is no more
# worth keeping, which is the least that Consul takes.
ABANDON = """
import asyncio
from sappers.config import ConsulSettings
from sappers.consul import registry
from sappers.consul.calls import ConsulCalls
from sappers.model.service import RegisterService, Service, ServiceHealth, ServiceReading

registry.TTL_SECONDS, registry.DEREGISTER_SECONDS = 1, 60
settings = ConsulSettings(enabled=True, token_file="/var/lib/sappers/consul.token")
service = Service("abandoned-1", "abandoned", "127.0.0.1", 1, (), {})
change = RegisterService(ServiceReading(service, ServiceHealth.PASSING, "reported once"))
asyncio.run(registry.ConsulRegistry(ConsulCalls(settings)).execute(change))
"""

# How many seconds it takes, on the host, until the one instance of a service is critical.
CRITICAL = """
import json, sys, time, urllib.request
began, url = time.monotonic(), f"http://127.0.0.1:8500/v1/health/service/{sys.argv[1]}"
while time.monotonic() - began < 150:
    found = json.load(urllib.request.urlopen(url, timeout=30))
    if [c["Status"] for one in found for c in one["Checks"] if c["ServiceID"]] == ["critical"]:
        print(round(time.monotonic() - began, 1))
        break
    time.sleep(0.05)
else:
    sys.exit(f"not critical: {found}")
"""


@pytest.fixture(scope="module")
def inventory(lab: Lab, cluster: LabCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lab's, with Consul on every host; the fourth has no vote."""
    lab.up(4)
    path: Path = tmp_path_factory.mktemp("inventory") / lab.inventory.name
    path.write_text(lab.inventory.read_text() + "consul=true\n")
    return path


@pytest.fixture(scope="module")
def consul(cluster: LabCluster, lab: Lab, inventory: Path, deploy: Deploy) -> Iterator[LabCluster]:
    done = deploy("bootstrap", str(inventory), "-o", "json", timeout_seconds=540)
    assert done.returncode == 0, done.stdout + done.stderr
    changes = changes_of(done.stdout)
    for host in cluster.hosts():
        assert "consul started" in changes[host], changes
    cluster.await_whole()
    yield cluster
    done = deploy("bootstrap", str(lab.inventory))
    assert done.returncode == 0, done.stdout + done.stderr
    for host in cluster.hosts():
        cluster.run(host, "systemctl disable --now sappers-consul; rm -rf /var/lib/sappers/consul*")
    cluster.await_whole()


def changes_of(output: str) -> dict[str, list[str]]:
    """What a bootstrap changed about Consul, by host."""
    return {
        name: [
            change
            for phase in host["phases"]
            if phase["title"] == TITLE
            for change in phase["changes"]
        ]
        for name, host in json.loads(output)["hosts"].items()
    }


def ask(cluster: LabCluster, host: str, path: str) -> Any:
    """What the Consul of a host answers to somebody without a token."""
    return json.loads(cluster.run(host, f"python3 -c {shlex.quote(ASK)} {shlex.quote(path)}"))


def instances(cluster: LabCluster, host: str, service: str) -> dict[str, str]:
    """Health of each instance, by its URL's host and port."""
    return {
        f"{one['Service']['Address']}:{one['Service']['Port']}": next(
            (check["Status"] for check in one["Checks"] if check["ServiceID"]), "no check"
        )
        for one in ask(cluster, host, f"/v1/health/service/{service}")
    }


def place(cluster: LabCluster, workload: str) -> str:
    guest = cluster.healthy_guest(workload)
    return f"{cluster.address(cluster.host_of(guest.member_id))}:{guest.host_port}"


GATEWAY = "/var/lib/sappers/gateway"
RELOAD = f"""
import socket
with socket.socket(socket.AF_UNIX) as master:
    master.connect("{GATEWAY}/master.sock")
    master.sendall(b"reload\\n")
    master.recv(1000)
"""
DESCRIBE = f"""
import socket
with socket.socket(socket.AF_UNIX) as runtime:
    runtime.connect("{GATEWAY}/runtime.sock")
    runtime.sendall(b"show info\\n")
    said = b"".join(iter(lambda: runtime.recv(65536), b"")).decode()
print(*(line.partition(" ")[2] for line in said.splitlines() if line.startswith("description:")))
"""


def described(cluster: LabCluster, host: str) -> str:
    """What the running HAProxy calls the shape of its configuration."""
    command = f"python3 -c {shlex.quote(DESCRIBE)} 2>/dev/null; true"
    return cluster.run(host, command).strip()


def through_gateway(cluster: LabCluster, host: str, service: str) -> int:
    """The status of an answer."""
    url = f"http://{cluster.address(host)}:8080/{service}"
    return httpx.get(url, timeout=30.0, trust_env=False).status_code


def test_servers_run_on_the_voters_and_clients_elsewhere(consul: LabCluster) -> None:
    view = consul.view()
    voters = {consul.host_of(one) for one in view.electorate}
    (client,) = set(consul.hosts()) - voters
    for host in (client, *voters):
        peers = ask(consul, host, "/v1/status/peers")
        assert sorted(peers) == sorted(f"{consul.address(one)}:8300" for one in voters)
        assert ask(consul, host, "/v1/status/leader") in peers
    members = {one["Name"]: one["Tags"]["role"] for one in ask(consul, client, "/v1/agent/members")}
    assert members == {**dict.fromkeys(voters, "consul"), client: "node"}


def test_a_second_run_changes_nothing(consul: LabCluster, inventory: Path, deploy: Deploy) -> None:
    done = deploy("bootstrap", str(inventory), "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["changed"] is False, done.stdout
    done = deploy("bootstrap", str(inventory), "--check", "-o", "json")
    assert json.loads(done.stdout)["changed"] is False, done.stdout


def test_no_source_of_apt_stays(consul: LabCluster) -> None:
    for host in consul.hosts():
        assert consul.run(host, "grep -ril bullseye /etc/apt; true") == ""
        assert consul.run(host, "dpkg-query -W consul 2>/dev/null; true") == ""


def test_consul_runs_as_nobody_else_and_sees_no_secret_of_its_host(consul: LabCluster) -> None:
    host = consul.hosts()[0]
    pid = consul.main_pid(host, "sappers-consul")
    assert consul.run(host, f"stat -c %U /proc/{pid}") == "sappers-consul"
    assert consul.run(host, f"ls /proc/{pid}/root/var/lib/sappers") == "consul"
    assert consul.run(host, f"grep CapEff /proc/{pid}/status").split()[-1] == "0" * 16
    # Not even root's powers would do: all but its data is read-only there, and root's on the host.
    folder = "/var/lib/sappers/consul"
    there = f"nsenter --target {pid} --mount find /var/lib/sappers -maxdepth 2 -writable"
    assert consul.run(host, there) == f"{folder}/data"
    owned = f"find {folder} {folder}.token -maxdepth 1 -user sappers-consul"
    assert consul.run(host, owned) == f"{folder}/data"


def test_what_was_planted_in_a_folder_that_was_consuls_own_is_not_followed(
    consul: LabCluster, inventory: Path, deploy: Deploy
) -> None:
    """As a bootstrap of before has left it, and then somebody who took its Consul over."""
    host, state = consul.hosts()[0], "/var/lib/sappers"
    before = consul.run(host, f"sha256sum {state}/hub.seed {state}/pki/key.pem")
    consul.run(
        host,
        f"cd {state}/consul && chown -R sappers-consul: . && chmod 0700 . && rm key.pem agent.json "
        f"&& ln -s ../hub.seed key.pem.new && ln -s ../pki/key.pem agent.json "
        f"&& ln -s ../hub.seed token && mv {state}/consul.token /root/",
    )
    done = deploy("bootstrap", str(inventory), "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "consul restarted" in changes_of(done.stdout)[host]
    assert consul.run(host, f"sha256sum {state}/hub.seed {state}/pki/key.pem") == before
    assert consul.run(host, f"cmp /root/consul.token {state}/consul.token; ls {state}/consul") == (
        "agent.json\nca.pem\ncert.pem\ndata\njoin.json\nkey.pem\nstarted-with"
    )
    test_a_second_run_changes_nothing(consul, inventory, deploy)
    test_consul_runs_as_nobody_else_and_sees_no_secret_of_its_host(consul)


def test_whoever_has_no_token_reads_and_changes_nothing(consul: LabCluster) -> None:
    host = consul.hosts()[0]
    assert "consul" in consul.run(host, "consul catalog services")
    denied = consul.run(host, "consul services register -name=evil 2>&1; true")
    assert "Permission denied" in denied
    assert "evil" not in consul.run(host, "consul catalog services")
    token = consul.run(host, "stat -c '%a %U' /var/lib/sappers/consul.token")
    assert token == "600 root"
    listening = consul.run(host, "ss -ltnH | awk '{ print $4 }'").split()
    assert "127.0.0.1:8500" in listening
    assert not [one for one in listening if one.endswith(":8500") and "127.0.0.1" not in one]


def test_what_nobody_reports_is_critical(consul: LabCluster) -> None:
    """As of an agent that is gone; the host's Consul is told by the agent's own code."""
    host = consul.hosts()[0]
    consul.run(host, f"/opt/sappers/current/bin/python -c {shlex.quote(ABANDON)}")
    until(lambda: set(instances(consul, host, "abandoned").values()) == {"critical"}, 150, "silent")


def test_a_guest_is_in_the_catalogue_with_its_health(consul: LabCluster, deploy: Deploy) -> None:
    done = deploy("run", "hello", "--image", "hello", "--port", "8080", "--service", "greeter")
    assert done.returncode == 0, done.stdout + done.stderr
    host = consul.hosts()[0]
    where = place(consul, "hello")
    until(lambda: instances(consul, host, "greeter") == {where: "passing"}, 150, "it passes")
    assert "greeter" in consul.run(host, "consul catalog services").split()


def test_the_gateway_of_every_host_reaches_it(consul: LabCluster) -> None:
    for host in consul.hosts():
        until(lambda host=host: through_gateway(consul, host, "greeter") == 200, 150, host)
        assert through_gateway(consul, host, "nobody") == 404


def test_the_gateway_is_alone_with_itself_and_outlives_its_agent(consul: LabCluster) -> None:
    host = consul.hosts()[0]
    pid = consul.main_pid(host, "sappers-gateway")
    worker = consul.run(host, f"cat /proc/{pid}/task/{pid}/children").split()[0]
    assert consul.run(host, f"stat -c %u /proc/{worker}") == str(GATEWAY_USER_ID)
    assert consul.run(host, f"grep CapEff /proc/{worker}/status").split()[-1] == "0" * 16
    assert consul.run(host, "systemctl is-enabled haproxy; true") == "disabled"
    consul.run(host, "systemctl stop sappers")
    assert through_gateway(consul, host, "greeter") == 200
    # As after an agent of another version: what HAProxy runs with has another shape. Within the
    # sandbox of its unit it is then reloaded, and is still the process that it was.
    consul.run(host, f"sed -i 's/^    description .*/    description other/' {GATEWAY}/haproxy.cfg")
    consul.run(host, f"python3 -c {shlex.quote(RELOAD)}")
    until(lambda: described(consul, host) == "other", 150, "HAProxy has another shape")
    consul.run(host, "systemctl start sappers")
    consul.await_whole()
    until(lambda: described(consul, host) not in ("", "other"), 150, "the agent reloads it")
    assert consul.main_pid(host, "sappers-gateway") == pid
    assert through_gateway(consul, host, "greeter") == 200


def via(cluster: LabCluster, workload: str, link: str) -> tuple[int, str]:
    """What a guest gets where it is linked to."""
    answer = httpx.get(
        f"http://{place(cluster, workload)}/via/{link}", timeout=30.0, trust_env=False
    )
    return answer.status_code, answer.text


def reaches(cluster: LabCluster, workload: str, link: str, greeted: str) -> bool:
    assert via(cluster, workload, link) == (200, greeted)
    return True


@pytest.fixture
def none_left(deploy: Deploy) -> Iterator[None]:
    """Nothing runs afterwards that other tests would find, also where the test fails."""
    yield
    for workload in ("shop", "other", "vault"):
        deploy("stop", workload)


@pytest.mark.usefixtures("none_left")
def test_who_is_linked_reaches_a_service_through_the_mesh(
    consul: LabCluster, deploy: Deploy
) -> None:
    for workload, port, *more in (
        ("vault", "8080:8090", "--private"),
        ("shop", "8080:8091", "--link=vault"),
        ("other", "8080:8092"),
    ):
        done = deploy("run", workload, "--image", "hello", "--port", port, *more)
        assert done.returncode == 0, done.stdout + done.stderr
    greeted = f"Hello from {consul.healthy_guest('vault').id}\n"
    until(lambda: reaches(consul, "shop", "vault", greeted), 150, "shop reaches the vault")
    assert via(consul, "other", "vault")[0] == 502
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{place(consul, 'vault')}/", timeout=30.0, trust_env=False)
    host = consul.hosts()[0]
    assert through_gateway(consul, host, "vault") == 404
    token = "CONSUL_HTTP_TOKEN_FILE=/var/lib/sappers/consul.token"
    for source, word in (("shop", "Allowed"), ("other", "Denied")):
        said = consul.run(host, f"{token} consul intention check {source} vault 2>&1; true")
        assert said == word
    guest = consul.healthy_guest("shop")
    owner, unit = consul.host_of(guest.member_id), f"sappers-mesh-{guest.id}"
    pid = consul.main_pid(owner, unit)
    assert_confined(consul, owner, pid)
    assert_only_its_guest_may_use_it(consul, owner, guest.id)
    consul.run(owner, "systemctl restart sappers")
    consul.await_whole()
    assert consul.main_pid(owner, unit) == pid
    until(lambda: reaches(consul, "shop", "vault", greeted), 150, "and does so again")
    for workload in ("shop", "other", "vault"):
        assert deploy("stop", workload).returncode == 0
    matching = f"{token} consul intention match vault 2>&1"
    until(lambda: "=>" not in consul.run(host, matching), 150, "nothing is said of it any more")
    until(lambda: consul.main_pid(owner, unit) == 0, 150, "its proxy has ended")
    assert link_users(consul, owner) == []


def assert_confined(cluster: LabCluster, host: str, pid: int) -> None:
    """A user of its own, no power of root's, and a token for its one service."""
    assert int(cluster.run(host, f"stat -c %u /proc/{pid}")) > GATEWAY_USER_ID
    status = cluster.run(host, f"cat /proc/{pid}/status")
    assert {line.split()[1] for line in status.splitlines() if line.startswith("Cap")} == {"0" * 16}
    folder = cluster.run(host, f"readlink /proc/{pid}/cwd")
    token = f"CONSUL_HTTP_TOKEN_FILE={folder}/token"
    read = cluster.run(host, f"{token} consul acl token read -self")
    assert "Service Identities" in read
    assert "global-management" not in read
    denied = cluster.run(host, f"{token} consul services register -name=vault 2>&1; true")
    assert "Permission denied" in denied


def link_users(cluster: LabCluster, host: str) -> list[tuple[int, int]]:
    """Who may use which port of a host's loopback."""
    shown = cluster.run(host, "nft -n list set inet sappers link_users")
    return [(int(user), int(port)) for user, port in re.findall(r"(\d+) \. (\d+)", shown)]


def assert_only_its_guest_may_use_it(cluster: LabCluster, host: str, allocation: str) -> None:
    pid = cluster.main_pid(host, cluster.guest_unit(host, allocation))
    user = int(cluster.run(host, f"stat -c %u /proc/{pid}"))
    ((known, port),) = link_users(cluster, host)
    assert known == user
    asked = f"r.urlopen('http://127.0.0.1:{port}/', timeout=30).read().decode()"
    program = shlex.quote(f"import urllib.request as r; print({asked})")
    for one, answered in ((user, True), (user + 1, False), (0, False)):
        command = f"setpriv --reuid={one} --regid={one} --clear-groups python3 -c {program}"
        assert ("Hello" in cluster.run(host, f"{command} 2>&1; true")) == answered, one


def test_a_killed_guest_is_critical_until_it_runs_again(consul: LabCluster, capsys) -> None:
    guest = consul.healthy_guest("hello")
    owner = consul.host_of(guest.member_id)
    where = place(consul, "hello")
    pid = consul.main_pid(owner, consul.guest_unit(owner, guest.id))
    # It may be well again before somebody has looked from elsewhere.
    seconds = consul.run(owner, f"kill -9 {pid}; python3 -c {shlex.quote(CRITICAL)} greeter")
    with capsys.disabled():
        print(f"\nkilled guest critical in Consul after {seconds} s")
    until(lambda: instances(consul, owner, "greeter") == {where: "passing"}, 150, "passing again")


def test_what_nobody_reports_is_removed_by_consul_itself(consul: LabCluster) -> None:
    # It has been critical since before the guests; Consul looks every 30 s for what is so for long.
    host = consul.hosts()[0]
    until(lambda: instances(consul, host, "abandoned") == {}, 150, "it is gone")


def test_drift_is_corrected(consul: LabCluster) -> None:
    guest = consul.healthy_guest("hello")
    owner = consul.host_of(guest.member_id)
    where = place(consul, "hello")
    consul.run(
        owner,
        "CONSUL_HTTP_TOKEN_FILE=/var/lib/sappers/consul.token "
        f"consul services deregister -id=sappers-{guest.id}",
    )
    until(lambda: instances(consul, owner, "greeter") == {where: "passing"}, 150, "registered anew")


def test_consul_stopped_is_said_and_caught_up_with(consul: LabCluster) -> None:
    guest = consul.healthy_guest("hello")
    owner = consul.host_of(guest.member_id)
    consul.run(owner, "systemctl stop sappers-consul")
    until(lambda: "Consul" in " ".join(consul.view().attention), 150, "status says so")
    assert consul.healthy_guest("hello").id == guest.id
    consul.run(owner, "systemctl start sappers-consul")
    consul.await_whole()
    where = place(consul, "hello")
    until(lambda: instances(consul, owner, "greeter") == {where: "passing"}, 150, "it passes again")


def test_on_a_dead_host_it_fails_and_passes_elsewhere(consul: LabCluster, lab: Lab) -> None:
    guest = consul.healthy_guest("hello")
    owner = consul.host_of(guest.member_id)
    old, address = place(consul, "hello"), consul.address(owner)
    lab.kill_host(owner)
    consul.healthy_guest("hello", not_on=guest.member_id)
    other = consul.hosts()[0]
    new = place(consul, "hello")

    def moved() -> bool:
        passing = ask(consul, other, "/v1/health/service/greeter?passing")
        found = [f"{one['Service']['Address']}:{one['Service']['Port']}" for one in passing]
        return found == [new]

    assert new != old
    until(moved, 150, "the new one passes, alone")
    lab.start_host(owner, address=address)
    consul.await_whole()
    until(
        lambda: instances(consul, other, "greeter") == {new: "passing"}, 150, "the old one is gone"
    )


def test_a_stopped_workload_leaves_the_catalogue(consul: LabCluster, deploy: Deploy) -> None:
    host = consul.hosts()[0]
    assert deploy("stop", "hello").returncode == 0
    until(lambda: instances(consul, host, "greeter") == {}, 150, "it is gone")
