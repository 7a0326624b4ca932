"""Real agents whose electorate changes: voters die, come back, are drained; the hub follows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sappers.errors import SappersError
from sappers.model.member import MemberState
from sappers.model.view import ClusterView
from tests.integration.agents import WHOLE_SECONDS, Agents
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)
# On an idle machine it takes 5 s; gossip that loses its first packets tries again after 30.
CHANGE_SECONDS = 150.0
SETTINGS = "[electorate]\nreplace_after_seconds = 5"


@pytest.fixture
def agents(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Agents]:
    names = [f"n{number}" for number in range(1, request.param + 1)]
    with Agents(tmp_path, names, more_settings=SETTINGS) as cluster:
        yield cluster


def view_of(cluster: Agents) -> ClusterView:
    view = cluster.view()
    assert view is not None
    return view


def voters_are(cluster: Agents, *names: str) -> bool:
    """They vote, one leads, and the hub runs on them."""
    view = cluster.view()
    if view is None or view.leader_id not in names or set(view.electorate) != set(names):
        return False
    roles = {one.member.id: (one.role, one.hub) for one in view.members}
    return set(view.hub_servers) == set(names) and all(
        roles[name][0] in ("leader", "follower") and roles[name][1] == "running" for name in names
    )


def follows(cluster: Agents, name: str) -> bool:
    """It has no vote, and is as far as the others."""
    try:
        health = cluster.client_at(name).health()
    except SappersError:
        return False
    view = cluster.view()
    if view is None or health.role != "none" or health.cluster_id != view.cluster_id:
        return False
    return health.applied_index >= view.commit_index - 5


def write(cluster: Agents) -> None:
    """Something that only a quorum can commit; it changes nothing."""
    cluster.insist("a write", lambda: cluster.client.uncordon(cluster.names[0]))


@pytest.mark.parametrize("agents", [4], indirect=True)
def test_voters_are_replaced_and_what_comes_back_follows(agents: Agents) -> None:
    wait_until("four members with a hub", agents.is_whole, WHOLE_SECONDS)
    view = view_of(agents)
    (spare,) = set(agents.names) - set(view.electorate)
    first, second = sorted(set(view.electorate) - {view.leader_id})
    leader = view.leader_id
    assert leader is not None

    agents.kill(first)
    wait_until(
        "the spare votes in the dead one's place",
        lambda: voters_are(agents, leader, second, spare),
        CHANGE_SECONDS,
    )
    agents.start(first)
    wait_until("what came back follows", lambda: follows(agents, first), CHANGE_SECONDS)
    assert set(view_of(agents).electorate) == {leader, second, spare}

    # The next loss is survived: the newcomer's vote is as good as any.
    agents.kill(second)
    write(agents)
    wait_until(
        "the first one votes again",
        lambda: voters_are(agents, leader, spare, first),
        CHANGE_SECONDS,
    )
    agents.start(second)
    wait_until("the second one follows", lambda: follows(agents, second), CHANGE_SECONDS)

    # Whoever leads now: where a machine is busy, another one may have been elected meanwhile.
    drained = view_of(agents).leader_id
    assert drained is not None
    agents.insist("drained", lambda: agents.client.cordon(drained, drain=True))
    wait_until(
        "the drained leader leads and votes no more",
        lambda: voters_are(agents, *(set(agents.names) - {drained})),
        CHANGE_SECONDS,
    )
    wait_until("and follows", lambda: follows(agents, drained), CHANGE_SECONDS)

    def state_of_it() -> MemberState | None:
        now = agents.view()
        found = [one.member for one in now.members if one.member.id == drained] if now else []
        return found[0].state if found else None

    assert agents.stop(drained) == 0
    wait_until("who was drained and stopped has left", lambda: state_of_it() is MemberState.LEFT)
    agents.start(drained)
    wait_until("it is back", lambda: state_of_it() is MemberState.ALIVE, CHANGE_SECONDS)
    kinds = [event.kind for event in agents.client.events(limit=1000).events]
    assert kinds.count("electorate.joining") >= 3
    assert kinds.count("electorate.leaving") >= 3
    assert "electorate.leading" in kinds


@pytest.mark.parametrize("agents", [7], indirect=True)
def test_seven_members_have_five_voters(agents: Agents) -> None:
    def five_vote() -> bool:
        view = agents.view()
        return (
            view is not None
            and len(view.members) == 7
            and len(view.electorate) == 5
            and voters_are(agents, *view.electorate)
        )

    wait_until("five voters with a hub", five_vote, WHOLE_SECONDS + CHANGE_SECONDS)
    write(agents)
