"""`raft revoke` and `rekey` on real agents: the gossip key changes while they run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from sappers.cli.rekey import replace_gossip_key
from sappers.config import StateFolder
from sappers.errors import HubError, SappersError
from sappers.hub.client import NatsHubClient
from sappers.hub.credentials import AgentCredentials
from sappers.model.gossip_keys import GossipKeys, parse_gossip_keys
from sappers.model.member import MemberState
from sappers.provisioner.control.identity import load_gossip_keys, save_gossip_keys
from sappers.security.identity import load_identity
from tests.integration.agents import Agents, wait_until
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(400)
WHOLE_SECONDS = 90.0


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    with Agents(tmp_path, ["n1", "n2", "n3", "n4", "n5"]) as cluster:
        yield cluster


def keys_of(cluster: Agents, name: str) -> GossipKeys:
    return parse_gossip_keys(StateFolder(cluster.folder / name).gossip_key.read_text())


def states_at(cluster: Agents, name: str) -> dict[str, MemberState]:
    try:
        with cluster.client_at(name) as client:
            return {one.member.id: one.member.state for one in client.view().members}
    except SappersError:
        return {}


async def is_refused(client: NatsHubClient) -> bool:
    """By each server, once the last one knows of it."""
    try:
        await client.ready(3.0)
    except HubError:
        return True
    return False


async def is_cut_off_from_the_hub(agents: Agents, revoked: str) -> None:
    """Who has all that a member has is let in until it is revoked, and never again."""
    view = agents.view()
    assert view is not None
    servers = [one.member for one in view.members if one.member.id in view.hub_servers]
    identity = load_identity(StateFolder(agents.folder / revoked).pki)
    its = agents.credentials_of(revoked)
    seed = AgentCredentials(StateFolder(agents.folder / revoked).hub_seed.read_text())
    thief = NatsHubClient(identity, lambda: its.agent("thief"))
    again = NatsHubClient(identity, lambda: seed.agent("thief"))
    try:
        await thief.connect(servers)
        await eventually(lambda: thief.connected)
        agents.client.call("PUT", f"/v1/members/{revoked}/revocation")
        await eventually(lambda: not thief.connected)
        await again.connect(servers)
        for client in (thief, again):
            await eventually(lambda client=client: is_refused(client))
            with pytest.raises(HubError):
                await client.ready(3.0)
    finally:
        await thief.close()
        await again.close()


def test_a_revoked_member_is_out_of_gossip_and_one_that_was_away_is_not(agents: Agents) -> None:
    wait_until("five members with a hub", agents.is_whole, WHOLE_SECONDS)
    view = agents.view()
    assert view is not None
    away, revoked = sorted(set(agents.names) - set(view.electorate))
    folder = agents.folder / "control"
    folder.mkdir()
    save_gossip_keys(folder, keys_of(agents, "n1"))
    before = load_gossip_keys(folder)

    asyncio.run(is_cut_off_from_the_hub(agents, revoked))
    agents.kill(away)
    # Not to the revoked one as well: it hears no entries any more, so it may never be as new as
    # what this client has written, and does not answer it then.
    wait_until(
        "who was killed is dead to all voters",
        lambda: all(
            states_at(agents, one).get(away) is MemberState.DEAD for one in view.electorate
        ),
        60,
    )
    assert replace_gossip_key(agents.client, folder) == 3
    new = load_gossip_keys(folder)
    assert len(new.keys) == 1
    assert new != before
    assert {keys_of(agents, name) for name in view.electorate} == {new}
    assert keys_of(agents, revoked) == before

    wait_until(
        "the others take it for dead",
        lambda: states_at(agents, view.electorate[0]).get(revoked) is MemberState.DEAD,
        60,
    )
    agents.start(away)  # with the old key; it asks the others for theirs
    wait_until(
        "who was away is heard again",
        lambda: states_at(agents, view.electorate[0]).get(away) is MemberState.ALIVE,
        90,
    )
    assert keys_of(agents, away) == new
    assert states_at(agents, view.electorate[0])[revoked] is MemberState.DEAD
    log = "".join(agents.log_of(name) for name in agents.names)
    assert not any(key in log for key in (*before.keys, *new.keys))
