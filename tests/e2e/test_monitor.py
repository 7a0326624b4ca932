"""The monitor that a cluster runs for itself, and a guest that was taken over, on real hosts.

The tests build on one cluster, in the order they stand here.
"""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

import pytest

from sappers.model.allocation import Allocation
from tests.e2e.conftest import Deploy
from tests.e2e.hostile_image import hostile_definition
from tests.e2e.lab_cluster import LabCluster, until

pytestmark = pytest.mark.timeout(900)

HEALTHY_SECONDS = 400.0
SETTLED_SECONDS = 28.0


def metrics_of(cluster: LabCluster, guest: Allocation) -> str:
    url = f"http://{cluster.address(cluster.host_of(guest.member_id))}:{guest.host_port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def event_kinds(cluster: LabCluster, subject: str) -> list[str]:
    return [event.kind for event in cluster.events() if event.subject == subject]


def ran(deploy: Deploy, *arguments: str) -> None:
    done = deploy(*arguments)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"


def test_a_cluster_with_the_image_runs_a_monitor_by_itself(cluster: LabCluster, deploy: Deploy):
    ran(deploy, "run", "hello", "--image", "hello", "--port", "8080")
    ran(deploy, "image", "build", "monitor")
    ran(deploy, "image", "push", "monitor")
    monitor = cluster.healthy_guest("monitor", HEALTHY_SECONDS)
    assert monitor.role == "monitor"
    hello = cluster.guest("hello")
    healthy = f'sappers_guest_healthy{{allocation="{hello.id}"}} 1'
    until(lambda: healthy in metrics_of(cluster, monitor), 150, "it has heard hello")
    # One that has just started alleges nothing of anybody; a guest may be well again by then.
    until(
        lambda: time.time() - cluster.guest("monitor").changed_at > SETTLED_SECONDS,
        SETTLED_SECONDS + 150,
        "it says what is wrong",
    )


def test_a_guest_that_falls_silent_becomes_an_alert_and_an_event(
    cluster: LabCluster, deploy: Deploy
):
    hello = cluster.guest("hello")
    host = cluster.host_of(hello.member_id)
    pid = cluster.main_pid(host, cluster.guest_unit(host, hello.id))
    began = time.monotonic()
    cluster.run(host, f"kill -STOP {pid}")
    until(lambda: "alert.raised" in event_kinds(cluster, hello.id), 200, "it is raised")
    print(f"raised {time.monotonic() - began:.1f} s after the guest stood still")
    shown = deploy("status").stdout
    assert "guest.silent" in shown or "alert.cleared" in event_kinds(cluster, hello.id)
    until(lambda: "alert.cleared" in event_kinds(cluster, hello.id), 300, "it is cleared")
    print(f"cleared after {time.monotonic() - began:.1f} s")
    cluster.healthy_guest("hello", HEALTHY_SECONDS)


def test_a_guest_that_was_taken_over_is_contained_and_named(
    cluster: LabCluster, deploy: Deploy, tmp_path: Path
):
    hello = cluster.healthy_guest("hello", HEALTHY_SECONDS)
    definitions = hostile_definition(tmp_path)
    ran(deploy, "image", "build", "hostile", "--definitions", str(definitions))
    ran(deploy, "run", "hostile", "--image", "hostile", "--timeout", "400")
    hostile = cluster.guest("hostile")

    def named() -> bool:
        attention = "\n".join(cluster.view().attention)
        print(attention)
        return f"guest {hostile.id} misbehaves" in attention and "hub credentials" in attention

    until(named, 200, "status names it")
    assert cluster.guest("hello").id == hello.id
    assert cluster.guest("hello").restarts == hello.restarts
    ran(deploy, "stop", "hostile")


def test_what_an_operator_stopped_stays_away_until_it_is_asked_for(
    cluster: LabCluster, deploy: Deploy
):
    ran(deploy, "stop", "monitor")
    until(
        lambda: (
            not [
                a
                for a in cluster.view().allocations
                if a.workload == "monitor" and not a.status.is_terminal
            ]
        ),
        150,
        "it is gone",
    )
    view = cluster.view()
    assert "monitor" not in [workload.name for workload in view.workloads]
    until(lambda: cluster.view().alerts == (), 90, "nothing is alleged")
    ran(deploy, "run", "monitor", "--image", "monitor")
    assert cluster.guest("monitor").role == "monitor"
    ran(deploy, "stop", "monitor")
    ran(deploy, "stop", "hello")
