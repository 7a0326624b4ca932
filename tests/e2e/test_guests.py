"""Guests: launched, healthy by their own word alone, healed, moved, and never left behind.

The tests build on one cluster and one workload, `hello`, in the order they stand here.
"""

from __future__ import annotations

import json
import shlex
import time
import urllib.request
from collections.abc import Iterator

import pytest

from sappers.config import GUEST_USER_IDS, HUB_USER_ID
from sappers.lab.lab import Lab
from sappers.model.allocation import AllocationStatus
from sappers.ports import UnitSpec
from sappers.supervision.systemd import run_command
from tests.e2e.conftest import Deploy
from tests.e2e.lab_cluster import GUESTS, LabCluster, no_traceback, until

pytestmark = pytest.mark.timeout(900)

# Every file, folder and socket that the process may write to, but for what is in /dev.
LIST_WRITABLE = """
import os

def look(path):
    if os.access(path, os.W_OK, effective_ids=True):
        print(path)

def walk(folder):
    look(folder)
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_symlink() or entry.path == "/dev":
            continue
        walk(entry.path) if entry.is_dir() else look(entry.path)

walk("/")
"""


def what_runs(cluster: LabCluster, host: str) -> set[str]:
    """The allocations of all guests' units on a host, whatever their state."""
    return set(cluster.guest_units(host).values())


def reasons(cluster: LabCluster, allocation_id: str) -> list[tuple[str, str]]:
    """(kind, text) of what happened to an allocation, oldest first."""
    return [(one.kind, one.text) for one in cluster.events() if one.subject == allocation_id]


def test_run_commits_places_launches_and_waits_for_health(cluster: LabCluster, deploy: Deploy):
    done = deploy("run", "hello", "--image", "hello", "--port", "8080")
    assert done.returncode == 0, done.stderr
    guest = cluster.guest("hello")
    assert guest.status is AllocationStatus.HEALTHY
    host = cluster.host_of(guest.member_id)
    url = f"http://{cluster.address(host)}:8080"
    assert done.stdout.strip() == url
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.read().decode().strip() == f"Hello from {guest.id}"
    assert what_runs(cluster, host) == {guest.id}
    kinds = [kind for kind, _ in reasons(cluster, guest.id)]
    assert kinds[0] == "allocation.placed"
    assert kinds[-1] == "allocation.healthy"


def test_ps_logs_and_status_show_it(cluster: LabCluster, deploy: Deploy):
    guest = cluster.guest("hello")
    listed = deploy("ps")
    for expected in (guest.id, cluster.host_of(guest.member_id), "healthy"):
        assert expected in listed.stdout
        assert expected in deploy("status").stdout
    as_json = json.loads(deploy("ps", "-o", "json").stdout)
    assert [one["id"] for one in as_json["allocations"]] == [guest.id]
    for host in cluster.hosts():
        told = deploy("logs", "hello", "--addr", f"{cluster.address(host)}:11000")
        assert told.returncode == 0, told.stderr
        assert told.stdout.strip(), host


def test_its_qemu_is_nobody_and_alone(cluster: LabCluster):
    """Whoever takes the QEMU over has no rights, no disk, and not the host's loopback."""
    guest = cluster.guest("hello")
    host = cluster.host_of(guest.member_id)
    pid = cluster.main_pid(host, cluster.guest_unit(host, guest.id))
    user, *rights = cluster.run(
        host, f"awk '/^(Uid|Cap|Seccomp:|NoNewPrivs)/ {{print $2}}' /proc/{pid}/status"
    ).split()
    assert int(user) in GUEST_USER_IDS
    assert rights == ["0" * 16] * 5 + ["1", "2"]
    readable = cluster.run(host, f"awk '$5 == \"/\" {{print $6}}' /proc/{pid}/mountinfo").strip()
    assert readable.startswith("ro,")
    dial = (
        f"setpriv --reuid={user} --regid={user} --clear-groups timeout 5 "
        "bash -c 'echo > /dev/tcp/{}/22' && echo reached || echo refused"
    )
    assert cluster.run(host, dial.format("127.0.0.1")).strip().endswith("refused")
    assert cluster.run(host, dial.format("::1")).strip().endswith("refused")
    assert cluster.run(host, dial.format(cluster.address(host))).strip().endswith("reached")


def test_whoever_takes_a_unit_over_may_write_to_its_folder_alone(cluster: LabCluster):
    """As root, too, as which the gateway's master stays: no setting, no socket of systemd's."""
    host, folder = cluster.hosts()[0], "/var/lib/sappers-probe"
    command = run_command(
        UnitSpec("sappers-probe", ("/usr/bin/python3", "-c", LIST_WRITABLE), folder)
    )
    end = command.index("--")
    waiting = (*command[:end], "--wait", "--property=RemainAfterExit=no", *command[end:])
    try:
        cluster.run(host, f"mkdir {folder}; {shlex.join(waiting)}")
        writable = set(cluster.run(host, f"cat {folder}/output.log").splitlines())
    finally:
        cluster.run(host, f"rm -rf {folder}")
    # Sockets are no files that a read-only system keeps from writing (docs/security.md).
    gateway = {f"/var/lib/sappers/gateway/{name}.sock" for name in ("master", "runtime")}
    assert writable - gateway == {folder, f"{folder}/output.log"}


def with_hub(cluster: LabCluster) -> tuple[str, int]:
    """A host that runs a hub server, and that server's process."""
    found = ((host, cluster.main_pid(host, "sappers-hub")) for host in cluster.hosts())
    return next((host, pid) for host, pid in found if pid)


def test_the_hubs_server_is_nobody_and_sees_its_folder_alone(cluster: LabCluster):
    host, pid = with_hub(cluster)
    user, group, *rights = cluster.run(
        host, f"awk '/^(Uid|Gid|Cap|Seccomp:|NoNewPrivs)/ {{print $2}}' /proc/{pid}/status"
    ).split()
    assert (int(user), int(group)) == (HUB_USER_ID, HUB_USER_ID)
    assert rights == ["0" * 16] * 5 + ["1", "2"]
    seen = f"cd /proc/{pid}/root/var/lib/sappers && find . -maxdepth 2"
    assert set(cluster.run(host, seen).split()) == {".", "./hub", "./hub/server"}
    data = "/var/lib/sappers/hub/server/data"
    there = f"nsenter --target {pid} --mount "
    for who in (f"setpriv --reuid={user} --regid={user} --clear-groups ", ""):
        listed = cluster.run(host, f"{there}{who}python3 -c {shlex.quote(LIST_WRITABLE)}")
        assert {path for path in listed.splitlines() if not path.startswith(f"{data}/")} == {data}


def test_what_a_hub_server_kept_that_was_root_is_given_to_its_user(cluster: LabCluster):
    """As after an agent of a version that had it run as root, in the folder above."""
    host, _ = with_hub(cluster)
    hub = "/var/lib/sappers/hub"
    cluster.run(
        host,
        f"systemctl stop sappers sappers-hub && cd {hub} && mv server/data/jetstream . "
        "&& rm -r server && touch nats-server.log && chown -R 0:0 . "
        """&& sed -i 's/"digest":"/&of-before-/' applied.json """
        "&& systemd-run --unit sappers-hub sleep 1000 && systemctl start sappers",
    )
    cluster.await_whole()
    until(lambda: cluster.run(host, f"ls {hub}/server/data 2>/dev/null; true"), 90, "it has moved")
    until(
        lambda: (
            cluster.run(host, f"stat -c %u /proc/{cluster.main_pid(host, 'sappers-hub')}")
            == str(HUB_USER_ID)
        ),
        90,
        "it runs as its user",
    )
    foreign = f"find {hub}/server/data ! -uid {HUB_USER_ID} 2>/dev/null; true"  # files come and go
    assert cluster.run(host, foreign) == ""
    kept = set(cluster.run(host, f"ls {hub}").split())
    assert kept == {"account.jwt", "applied.json", "operator.jwt", "server"}
    cluster.await_whole()


def test_neither_restart_nor_crash_of_its_agent_touches_it(cluster: LabCluster):
    guest = cluster.guest("hello")
    host = cluster.host_of(guest.member_id)
    qemu = cluster.main_pid(host, cluster.guest_unit(host, guest.id))
    before = reasons(cluster, guest.id)
    cluster.run(host, "systemctl restart sappers")
    cluster.await_whole()
    agent = cluster.main_pid(host, "sappers")
    cluster.kill(host, agent)
    until(lambda: cluster.main_pid(host, "sappers") not in (0, agent), 90, "the agent is back")
    cluster.await_whole()
    assert cluster.main_pid(host, cluster.guest_unit(host, guest.id)) == qemu
    assert cluster.healthy_guest("hello") == guest
    assert reasons(cluster, guest.id) == before
    assert cluster.greeting(guest) == f"Hello from {guest.id}"


def test_a_killed_hub_server_does_not_make_it_unhealthy(cluster: LabCluster):
    guest = cluster.guest("hello")
    before = reasons(cluster, guest.id)
    for host in cluster.hosts():
        pid = cluster.main_pid(host, "sappers-hub")
        if pid:
            cluster.kill(host, pid)
            until(
                lambda h=host, p=pid: cluster.main_pid(h, "sappers-hub") not in (0, p),
                90,
                f"{host} runs its hub server again",
            )
            cluster.await_whole()
    assert cluster.guest("hello") == guest
    assert reasons(cluster, guest.id) == before


def test_killed_it_is_restarted_in_place_and_the_reason_kept(cluster: LabCluster):
    guest = cluster.guest("hello")
    host = cluster.host_of(guest.member_id)
    cluster.kill(host, cluster.main_pid(host, cluster.guest_unit(host, guest.id)))
    until(lambda: cluster.guest("hello").restarts == guest.restarts + 1, 150, "it is restarted")
    again = cluster.healthy_guest("hello")
    assert (again.id, again.member_id) == (guest.id, guest.member_id)
    assert cluster.greeting(again) == f"Hello from {guest.id}"
    told = [text for kind, text in reasons(cluster, guest.id) if kind == "allocation.unhealthy"]
    assert told
    assert "kill" in told[-1].lower(), told


def test_silence_of_its_sidecar_is_a_failure(cluster: LabCluster):
    guest = cluster.guest("hello")
    host = cluster.host_of(guest.member_id)
    qemu = cluster.main_pid(host, cluster.guest_unit(host, guest.id))
    cluster.run(host, f"kill -STOP {qemu}")
    until(lambda: cluster.guest("hello").restarts == guest.restarts + 1, 150, "it is restarted")
    told = [text for kind, text in reasons(cluster, guest.id) if kind == "allocation.unhealthy"]
    assert "no health push" in told[-1], told
    again = cluster.healthy_guest("hello")
    assert (again.id, again.member_id) == (guest.id, guest.member_id)
    assert cluster.main_pid(host, cluster.guest_unit(host, guest.id)) != qemu


def test_what_nobody_owns_is_swept(cluster: LabCluster):
    guest = cluster.guest("hello")
    host = cluster.host_of(guest.member_id)
    other = next(name for name in cluster.hosts() if name != host)
    for place in (host, other):
        cluster.run(place, "systemd-run --unit sappers-guest-nobody-1 sleep 1000")
        cluster.run(
            place,
            f"mkdir -p {GUESTS}/nobody-2/run && touch {GUESTS}/nobody-2/run/qmp.sock"
            f' && echo \'{{"allocation_id":"nobody-2","health_interval_seconds":1.0}}\''
            f" > {GUESTS}/nobody-2/record.json",
        )
        cluster.run(
            place, f"mkdir -p {GUESTS}/nobody-3/run && touch {GUESTS}/nobody-3/run/qmp.sock"
        )
    for place in (host, other):
        until(
            lambda p=place: what_runs(cluster, p) == ({guest.id} if p == host else set()),
            90,
            f"the unit is swept from {place}",
        )
        for name in ("nobody-2", "nobody-3"):
            until(
                lambda p=place, n=name: not cluster.run(p, f"ls -A {GUESTS}/{n} 2>/dev/null; true"),
                90,
                f"{name} is swept from {place}",
            )
    assert cluster.guest("hello") == guest


def test_a_damaged_image_is_never_started(cluster: LabCluster):
    """Bytes change on the disk of the guest's own host; the file is put together anew."""
    guest = cluster.guest("hello")
    host = cluster.host_of(guest.member_id)
    blob = cluster.run(host, "ls -S /var/lib/sappers/images/blobs/sha256/* | head -1")
    cluster.run(
        host,
        f"chmod u+w {blob} && cp {blob} /tmp/blob && "
        "printf X | dd of=/tmp/blob bs=1 seek=5000 conv=notrunc status=none && "
        f"mv /tmp/blob {blob}",
    )
    cluster.kill(host, cluster.main_pid(host, cluster.guest_unit(host, guest.id)))
    until(lambda: cluster.guest("hello").restarts > guest.restarts, 150, "it is restarted")
    again = cluster.healthy_guest("hello")
    assert again.member_id == guest.member_id
    found = cluster.run(host, f"sha256sum {blob}").split()
    assert found[0] == found[1].rpartition("/")[2]


def test_a_workload_that_cannot_be_is_refused(cluster: LabCluster, deploy: Deploy):
    for arguments in (
        ("run", "other", "--image", "nonesuch"),
        ("run", "other", "--image", "0" * 64),
        ("run", "Bad Name", "--image", "hello"),
        ("run", "other", "--image", "hello", "--port", "99999"),
        ("stop", "nonesuch"),
        ("logs", "nonesuch"),
    ):
        done = deploy(*arguments)
        assert done.returncode == 1, (arguments, done)
        assert done.stderr.startswith("error: "), done.stderr
        no_traceback(done.stderr)
    assert "other" not in [one.name for one in cluster.view().workloads]


def test_a_full_disk_is_said_and_survived(cluster: LabCluster, lab: Lab, deploy: Deploy):
    """Of images, where one is pushed to; of the agent's folder, where a bundle is unpacked."""
    settled = deploy("bootstrap", str(lab.inventory))  # earlier tests have moved and added hosts
    assert settled.returncode == 0, settled
    guest = cluster.guest("hello")
    host = next(name for name in cluster.hosts() if name != cluster.host_of(guest.member_id))
    images = "/var/lib/sappers/images"
    cluster.run(host, f"mount -t tmpfs -o size=1m,mode=700 full {images}")
    try:
        address = f"{cluster.address(host)}:11000"
        done = deploy("run", "other", "--image", "hello", "--addr", address, "--timeout", "60")
    finally:
        cluster.run(host, f"umount {images}")
    assert done.returncode == 1, done
    assert "no room for an image" in done.stderr
    assert "hint: " in done.stderr
    no_traceback(done.stderr)
    # Told when the image is pushed, or, where the member had not looked yet, when it is launched:
    # then the cluster goes on trying.
    deploy("stop", "other")
    until(
        lambda: (
            not [
                one
                for one in cluster.view().allocations
                if one.workload == "other" and not one.status.is_terminal
            ]
        ),
        150,
        "nothing is left of it",
    )
    cluster.await_images()

    cluster.run(host, "mount -t tmpfs -o size=700m,nr_inodes=50 full /opt/sappers")
    try:
        done = deploy("bootstrap", str(lab.inventory), "--limit", host, "-o", "json")
    finally:
        cluster.run(host, "umount /opt/sappers")
    assert done.returncode == 2, done
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem["host"] == host
    assert "No space left on device" in problem["message"]
    assert problem["hint"]
    no_traceback(done.stderr)
    again = deploy("bootstrap", str(lab.inventory), "--limit", host, "-o", "json")
    assert (again.returncode, json.loads(again.stdout)["changed"]) == (0, False), again
    cluster.await_whole()
    assert cluster.guest("hello") == guest


def test_its_host_dies_and_it_lives_on_elsewhere(cluster: LabCluster, lab: Lab, capsys):
    guest = cluster.guest("hello")
    host = cluster.host_of(guest.member_id)
    began = time.monotonic()
    lab.kill_host(host)
    moved = cluster.healthy_guest("hello", not_on=guest.member_id)
    with capsys.disabled():
        print(f"\nhost killed to healthy elsewhere: {time.monotonic() - began:.1f} s")
    assert moved.id != guest.id
    assert cluster.greeting(moved) == f"Hello from {moved.id}"
    assert any(kind == "allocation.lost" for kind, _ in reasons(cluster, guest.id))

    lab.start_host(host, address=cluster.new_address())
    cluster.await_whole()
    assert cluster.member_id(host) == guest.member_id
    until(lambda: not what_runs(cluster, host), 90, "no second copy runs")
    until(
        lambda: not cluster.run(host, f"ls -A {GUESTS}/*/run 2>/dev/null; true"),
        90,
        "its leftovers are swept",
    )
    assert cluster.guest("hello") == moved


def test_guests_go_to_a_host_at_its_new_address(cluster: LabCluster, deploy: Deploy):
    """As many copies as members: each has one, also the one that has moved; the first stays."""
    cluster.await_trusted()
    first = cluster.guest("hello")
    count = len(cluster.hosts())
    done = deploy("run", "hello", "--image", "hello", "--port", "8080", "--count", str(count))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == count
    for url in done.stdout.split():
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.read().startswith(b"Hello from hello-")
    assert {url.split("/")[2].split(":")[0] for url in done.stdout.split()} == {
        cluster.address(host) for host in cluster.hosts()
    }
    assert first in cluster.view().allocations


def test_all_hosts_lose_power_and_the_guests_come_back(
    cluster: LabCluster, lab: Lab, deploy: Deploy
):
    hosts = cluster.hosts()
    count = str(len(hosts))
    done = deploy("run", "hello", "--image", "hello", "--port", "8080", "--count", count)
    assert done.returncode == 0, done.stderr
    before = cluster.view()
    for host in hosts:
        lab.kill_host(host)
    lab.up()
    after = cluster.await_whole()
    assert (after.cluster_id, after.electorate) == (before.cluster_id, before.electorate)
    assert after.commit_index > before.commit_index
    assert {one.member.id for one in after.members} == {one.member.id for one in before.members}
    assert after.workloads == before.workloads

    def all_healthy() -> bool:
        live = [one for one in cluster.view().allocations if not one.status.is_terminal]
        assert len(live) == len(hosts), live
        assert all(one.status is AllocationStatus.HEALTHY for one in live), live
        return True

    until(all_healthy, 400, "every guest is healthy again")


@pytest.fixture
def first_and_second(deploy: Deploy) -> Iterator[tuple[str, str]]:
    """Names of two workloads that no later test finds."""
    yield "first", "second"
    for name in ("first", "second"):
        deploy("stop", name)


def test_a_guest_that_was_a_spare_is_as_any_other(
    cluster: LabCluster, deploy: Deploy, first_and_second: tuple[str, str]
):
    cluster.await_trusted()  # one that is suspected, as after a power cut, is given no copy
    for command in ("push", "warm"):
        done = deploy("image", command, "hello")
        assert done.returncode == 0, done
    count = str(len(cluster.hosts()))
    done = deploy("run", "first", "--image", "hello", "--port", "8080:8090", "--count", count)
    assert done.returncode == 0, done.stderr
    spares = {
        host: until(lambda h=host: cluster.ready_spares(h), 90, f"a spare on {host}")
        for host in cluster.hosts()
    }
    done = deploy("run", "second", "--image", "hello", "--port", "8080:8091")
    assert done.returncode == 0, done.stderr
    guest = cluster.guest("second")
    host = cluster.host_of(guest.member_id)
    unit = cluster.guest_unit(host, guest.id)
    assert {unit} == spares[host], reasons(cluster, guest.id)
    url = f"http://{cluster.address(host)}:8091"
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.read().decode().strip() == f"Hello from {guest.id}"
    pid = cluster.main_pid(host, unit)
    user, *rights = cluster.run(
        host, f"awk '/^(Uid|Cap|Seccomp:|NoNewPrivs)/ {{print $2}}' /proc/{pid}/status"
    ).split()
    assert int(user) in GUEST_USER_IDS
    assert rights == ["0" * 16] * 5 + ["1", "2"]
    assert cluster.run(host, f"stat -c %u {GUESTS}/{guest.id}/run") == user

    # An agent that crashes leaves the guest, and a spare, which the next one ends.
    (left,) = until(lambda: cluster.spares(host), 90, "the next spare")
    cluster.kill(host, cluster.main_pid(host, "sappers"))
    until(lambda: left not in cluster.spares(host), 90, "it has ended")
    cluster.await_whole()
    assert cluster.main_pid(host, unit) == pid
    assert cluster.healthy_guest("second").id == guest.id
    for name in first_and_second:
        assert deploy("stop", name).returncode == 0
    until(lambda: unit not in cluster.run(host, "systemctl list-units --all"), 90, "it is stopped")


def test_stop_leaves_nothing_of_it(cluster: LabCluster, deploy: Deploy):
    count = str(len(cluster.hosts()))
    done = deploy("run", "hello", "--image", "hello", "--port", "8080", "--count", count)
    assert done.returncode == 0, done.stderr
    done = deploy("stop", "hello")
    assert done.returncode == 0, done.stderr
    for host in cluster.hosts():
        until(lambda h=host: not what_runs(cluster, h), 90, "no unit is left")
        left = f"ls -A {GUESTS}/*/run 2>/dev/null; true"
        until(lambda h=host, left=left: not cluster.run(h, left), 90, "no file is left")
        # A template that is just being made in the background is finished first.
        until(
            lambda h=host: cluster.run(h, "pgrep -c qemu; true") == str(len(cluster.spares(h))),
            300,
            "no QEMU is left but of spares",
        )
    until(lambda: "hello" not in deploy("ps").stdout, 90, "ps lists it no more")
