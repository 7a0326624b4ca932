"""From the monitor's word to an event of the cluster, over real agents and nats-servers.

The monitor here is a program with a guest's credentials; its image never comes whole.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sappers.api.wire import WantedWorkload
from sappers.model import subjects
from sappers.model.allocation import Allocation
from tests.integration.agents import WHOLE_SECONDS, Agents, image_at
from tests.integration.test_hostile_guests import guest_client
from tests.waiting import eventually, wait_until

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    with Agents(tmp_path, ["n1", "n2", "n3"]) as cluster:
        yield cluster


def the_guest(agents: Agents, workload: str) -> Allocation:
    found: list[Allocation] = []

    def look() -> bool:
        view = agents.view()
        found[:] = [a for a in view.allocations if a.workload == workload] if view else []
        return bool(found)

    wait_until(f"{workload} is placed", look)
    return found[0]


async def report(
    agents: Agents,
    guest: Allocation,
    *alerts: tuple[str, str],
    until: Callable[[], bool] | None = None,
) -> None:
    """Say it again and again, as the monitor does, until it is heard (else a few times)."""
    said = [{"kind": kind, "subject": subject, "text": "it is so"} for kind, subject in alerts]
    client = await guest_client(agents, guest)
    times = 0

    async def heard() -> bool:
        nonlocal times
        await client.publish(subjects.guest_alert(guest.id), json.dumps({"alerts": said}).encode())
        await asyncio.sleep(0.5)
        times += 1
        return await asyncio.to_thread(until) if until else times == 4

    await eventually(heard)
    await client.close()


def alerts(agents: Agents) -> list[tuple[str, str]]:
    view = agents.view()
    return [(one.kind, one.subject) for one in view.alerts] if view else []


def test_the_leaders_own_monitor_raises_and_clears_alerts_and_nobody_else_does(
    agents: Agents,
) -> None:
    wait_until("three members on one index with a hub", agents.is_whole, WHOLE_SECONDS)
    image_at(agents, "n2", "monitor")
    monitor = the_guest(agents, "monitor")
    assert monitor.role == "monitor"
    agents.client.put_workload(
        "hello", WantedWorkload(image_at(agents, "n2"), count=1, memory_mib=16)
    )
    hello = the_guest(agents, "hello")

    asyncio.run(report(agents, hello, ("guest.silent", "lie-1")))
    both = ("guest.silent", hello.id), ("member.dead", "n9")
    asyncio.run(report(agents, monitor, *both, until=lambda: len(alerts(agents)) == 2))
    assert alerts(agents) == [("guest.silent", hello.id), ("member.dead", "n9")]
    one = ("member.dead", "n9")
    asyncio.run(report(agents, monitor, one, until=lambda: alerts(agents) == [one]))
    kinds = [one.kind for one in agents.client.events(limit=1000).events if "alert" in one.kind]
    assert kinds == ["alert.raised", "alert.raised", "alert.cleared"]

    agents.client.delete_workload("monitor")
    wait_until("without a monitor nothing is alleged", lambda: not alerts(agents))
    view = agents.view()
    assert view is not None
    assert [one.name for one in view.workloads] == ["hello"]
