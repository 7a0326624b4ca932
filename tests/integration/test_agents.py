from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from sappers.api.wire import WantedWorkload
from sappers.errors import SappersError
from tests.integration.agents import WHOLE_SECONDS, Agents, image_at
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)
# On an idle machine it takes 5 s; gossip that loses its first packets tries again after 30.


@pytest.fixture
def agents(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Agents]:
    names = request.param if hasattr(request, "param") else ["n1", "n2", "n3", "n4"]
    with Agents(tmp_path, names, bootstrap=min(3, len(names))) as cluster:
        yield cluster


def test_four_agents_become_one_cluster_that_survives_its_leader(agents: Agents) -> None:
    wait_until("four members on one index with a hub", agents.is_whole, WHOLE_SECONDS)
    view = agents.view()
    assert view is not None
    assert len(view.electorate) == 3
    assert set(view.hub_servers) == set(view.electorate)
    leader = view.leader_id
    assert leader is not None
    wanted = WantedWorkload(image_at(agents, "n4"), count=0)

    # n4 has no vote, and learns of an entry later than others; asked so, it answers none the less.
    follower, leading = agents.client_at("n4"), agents.client_at(leader)
    for port in range(9000, 9020):
        wanted = msgspec.structs.replace(wanted, guest_port=port)
        agents.insist("a write", partial(leading.put_workload, "waiting", wanted))
        consistency = "linearizable" if port % 2 else "local"  # the client says what it wrote
        (read,) = follower.workloads(consistency=consistency).workloads
        assert read.guest_port == port

    agents.kill(leader)
    killed_at = time.monotonic()
    agents.insist("a write", lambda: agents.client.put_workload("waiting", wanted))
    print(f"next write {time.monotonic() - killed_at:.2f} s after kill -9 of the leader")
    others = [name for name in agents.names if name != leader]

    def another_leads() -> bool:
        now = agents.view()
        return now is not None and now.leader_id in others

    wait_until("another leads", another_leads)
    agents.start(leader)
    wait_until("the killed member is itself again", agents.is_whole, WHOLE_SECONDS)
    again = agents.view()
    assert again is not None
    assert again.cluster_id == view.cluster_id
    assert [workload.name for workload in again.workloads] == ["waiting"]


@pytest.mark.parametrize("agents", [["only"]], indirect=True)
def test_one_agent_alone_is_a_cluster(agents: Agents) -> None:
    wait_until("a cluster of one", agents.is_whole, WHOLE_SECONDS)
    assert agents.stop("only") == 0
    agents.start()
    wait_until("the same cluster again", agents.is_whole, WHOLE_SECONDS)


@pytest.mark.parametrize("agents", [["n1", "n2", "n3"]], indirect=True)
def test_a_voter_whose_raft_hangs_is_suspected_though_gossip_hears_it(agents: Agents) -> None:
    wait_until("three members with a hub", agents.is_whole, WHOLE_SECONDS)
    view = agents.view()
    assert view is not None
    leader = view.leader_id
    assert leader is not None
    name = next(one for one in agents.names if one != leader)

    def held() -> tuple[str, ...] | None:
        try:
            now = agents.client_at(leader).view()  # the one that hangs knows nothing new
        except SappersError:
            return None
        found = [one for one in now.members if one.member.id == name]
        return found[0].suspected_by if found else None

    process = agents.raft_process_of(name)
    os.kill(process, signal.SIGSTOP)
    try:
        wait_until("Raft's word against it is committed", lambda: "raft" in (held() or ()))
    finally:
        os.kill(process, signal.SIGCONT)
    wait_until("it is trusted again", lambda: held() == ())
    again = agents.view()
    assert again is not None
    assert not again.repairs


@pytest.mark.parametrize("agents", [["n1", "n2", "n3"]], indirect=True)
def test_a_leader_whose_agent_hangs_leads_no_more(agents: Agents) -> None:
    """Its raft process goes on, and would be followed; nobody could propose anything."""
    wait_until("three members with a hub", agents.is_whole, WHOLE_SECONDS)
    view = agents.view()
    assert view is not None
    leader = view.leader_id
    assert leader is not None
    other = next(one for one in agents.names if one != leader)

    def leads_now() -> str | None:
        return agents.client_at(other).health().leader_id

    agents.hang(leader)
    try:
        wait_until("another leads", lambda: leads_now() not in (leader, None))
        # It changes nothing; only a leader can have it committed.
        agents.insist("it leads", lambda: agents.client_at(other).uncordon(leader))
    finally:
        agents.go_on(leader)
    wait_until("the one that hung follows", agents.is_whole, WHOLE_SECONDS)
    again = agents.view()
    assert again is not None
    assert again.leader_id not in (leader, None)
