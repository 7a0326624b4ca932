"""A member whose agent died is brought back by a healer, over SSH, from another member.

The tests build on one cluster in the order they stand here; each leaves it whole.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from sappers.api.image_calls import ImageCalls
from sappers.errors import ImageError
from sappers.images import ops
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.event import Event
from sappers.model.repair import HEALER, Repair, RepairStatus
from tests.e2e.conftest import Deploy
from tests.e2e.lab_cluster import LabCluster, until

pytestmark = pytest.mark.timeout(900)

NANOS = "healer-nanos"
REPAIR_SECONDS = 400
KILL_FOR_GOOD = "systemctl kill -s KILL --kill-whom=main sappers; systemctl stop sappers"


@pytest.fixture(scope="module", autouse=True)
def healer(cluster: LabCluster, deploy: Deploy) -> Iterator[None]:
    """The cluster has a healer while these tests run."""
    for command in (("image", "build", HEALER), ("image", "push", HEALER)):
        done = deploy(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    yield
    until(lambda: not healers(cluster), 150, "no healer is left")
    with cluster.client() as client:
        ImageCalls(client).remove(cluster.images.store.named()[HEALER])


def healers(cluster: LabCluster) -> list[Allocation]:
    return [a for a in cluster.view().allocations if a.repair and not a.status.is_terminal]


def least_repaired(cluster: LabCluster) -> str:
    """A host that does not lead; one that was repaired before waits longer for the next time."""
    view, leader = cluster.view(), cluster.leader()
    hosts = {one.member.name: one.member.id for one in view.members if one.member.name != leader}
    return min(hosts, key=lambda host: sum(one.member_id == hosts[host] for one in view.repairs))


def events(cluster: LabCluster, repair: Repair) -> list[Event]:
    return [event for event in cluster.events() if event.subject == repair.id]


def repair_of(
    cluster: LabCluster, host: str, member_id: str, since: float, *statuses: RepairStatus
) -> Repair:
    """The host's repair that was opened since then, once it is one of these."""

    def look() -> Repair:
        view = cluster.view(*(one for one in cluster.hosts() if one != host))
        found = [r for r in view.repairs if r.member_id == member_id and r.opened_at > since]
        assert found, view.attention
        assert found[0].status in statuses, found[0]
        return found[0]

    return until(look, REPAIR_SECONDS, f"the repair of {host} is {', '.join(statuses)}")


def test_an_agent_that_is_killed_for_good_is_restored_and_each_step_is_an_event(
    cluster: LabCluster, capsys
):
    took = []
    for host in (least_repaired(cluster), cluster.leader()):
        member_id = cluster.member_id(host)
        stopped = time.time()
        cluster.run(host, KILL_FOR_GOOD)
        repair = repair_of(cluster, host, member_id, stopped, RepairStatus.RESTORED)
        chain = [event.kind for event in events(cluster, repair)]
        assert chain[:3] == ["repair.opened", "repair.assigned", "repair.claimed"], chain
        assert chain.count("repair.step") >= 3, chain
        assert chain[-1] == "repair.restored", chain
        assert "attempt 1 repaired it" in repair.trouble
        alive = [
            event.time
            for event in cluster.events()
            if (event.kind, event.subject) == ("member.alive", member_id)
        ]
        took.append(alive[-1] - stopped)
        with capsys.disabled():
            print(f"\n{host}: stopped to alive again in {took[-1]:.1f} s")
            for event in events(cluster, repair):
                print(f"  +{event.time - stopped:5.1f} s {event.kind:24} {event.text}")
        until(lambda: not healers(cluster), 150, "the healer is gone")
        cluster.await_whole()


def test_the_healer_may_be_a_unikernel(cluster: LabCluster, deploy: Deploy, capsys):
    try:
        ops.find_kernel(os.environ)
    except ImageError as error:
        pytest.skip(f"no Nanos guest can be booted: {error}")
    for command in (("image", "build", HEALER, "--kind", "nanos"), ("image", "push", NANOS)):
        done = deploy(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    host = least_repaired(cluster)
    member_id = cluster.member_id(host)
    stopped = time.time()
    cluster.run(host, KILL_FOR_GOOD)
    repair = repair_of(cluster, host, member_id, stopped, RepairStatus.RESTORED)
    assert "attempt 1 repaired it" in repair.trouble
    with capsys.disabled():
        print(f"\n{host}: a unikernel repaired it, {repair.changed_at - stopped:.1f} s")
        for event in events(cluster, repair):
            print(f"  +{event.time - stopped:5.1f} s {event.kind:24} {event.text}")
    healers_of = [a.image.name for a in cluster.view().allocations if a.repair == repair.id]
    assert healers_of == [NANOS]
    until(lambda: not healers(cluster), 150, "the healer is gone")
    with cluster.client() as client:
        ImageCalls(client).remove(cluster.images.store.named()[NANOS])
    cluster.await_whole()


def test_another_healer_follows_one_that_is_killed(cluster: LabCluster):
    host = least_repaired(cluster)
    member_id = cluster.member_id(host)
    stopped = time.time()
    cluster.run(host, KILL_FOR_GOOD)
    begun = (RepairStatus.ASSIGNED, RepairStatus.CLAIMED)
    repair = repair_of(cluster, host, member_id, stopped, *begun)
    first = next(one for one in healers(cluster) if one.repair == repair.id)
    home = cluster.host_of(first.member_id)
    cluster.run(home, f"systemctl kill -s KILL {cluster.guest_unit(home, first.id)}")

    def second() -> Allocation:
        found = [one for one in healers(cluster) if one.repair == repair.id and one.id != first.id]
        assert len(found) == 1, found
        return found[0]

    assert until(second, 150, "another healer is placed").member_id not in (
        member_id,
        first.member_id,
    )
    repair = repair_of(cluster, host, member_id, stopped, RepairStatus.RESTORED)
    assert repair.attempt >= 2
    assert "repair.attempt-failed" in [event.kind for event in events(cluster, repair)]
    until(lambda: not healers(cluster), 150, "the healer is gone")
    cluster.await_whole()


def test_a_damaged_agent_gives_way_to_the_version_before_it(cluster: LabCluster):
    host = least_repaired(cluster)
    member_id = cluster.member_id(host)
    current = cluster.run(host, "readlink /opt/sappers/current")
    older = f"0123456789ab-{current.partition('-')[2]}"
    cluster.run(
        host,
        f"cd /opt/sappers && cp -a {current} {older} && touch -d yesterday {older}"
        f" && sed -i 's#{current}#{older}#g' {older}/bin/sappers"
        f" && echo 'not a program' > {current}/bin/sappers",
    )
    stopped = time.time()
    cluster.run(host, KILL_FOR_GOOD)
    repair = repair_of(cluster, host, member_id, stopped, RepairStatus.RESTORED)
    told = [event.text for event in events(cluster, repair) if event.kind == "repair.step"]
    assert any(f"going back to version {older}" in text for text in told), told
    assert cluster.run(host, "readlink /opt/sappers/current") == older
    until(lambda: not healers(cluster), 150, "the healer is gone")
    cluster.run(host, f"rm -r /opt/sappers/{current}")


def test_a_host_without_power_is_given_up_its_work_moves_and_a_person_is_told(
    cluster: LabCluster, deploy: Deploy
):
    host = least_repaired(cluster)
    member_id = cluster.member_id(host)
    with cluster.client() as client:
        client.put_workload("hello", cluster.wanted(count=3))
    until(lambda: running_on(cluster, member_id), 300, "a guest runs there")
    stopped = time.time()
    cluster.lab.kill_host(host)
    repair = repair_of(cluster, host, member_id, stopped, RepairStatus.MOVED)
    assert "is placed elsewhere" in repair.trouble
    until(
        lambda: "no healer can reach it" in " ".join(deploy("status").stdout.split()),
        90,
        "status says what a person has to do",
    )
    with cluster.client() as client:
        client.delete_workload("hello")
    cluster.lab.start_host(host)
    cluster.await_whole()


def running_on(cluster: LabCluster, member_id: str) -> bool:
    return any(
        one.member_id == member_id and one.status is AllocationStatus.HEALTHY
        for one in cluster.view().allocations
    )
