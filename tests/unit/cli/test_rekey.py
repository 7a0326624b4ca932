"""`rekey`: all living members or none, one ring after the other, and the file first."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from sappers.api.https_calls import Peer
from sappers.api.ways import Endpoint, Reached
from sappers.cli.rekey import replace_gossip_key
from sappers.errors import ApiError, ConfigError, IdentityError
from sappers.model.gossip_keys import GossipKeys
from sappers.model.member import MemberState
from sappers.provisioner.control.identity import (
    create_gossip_key,
    load_gossip_keys,
    save_gossip_keys,
)
from tests.fake_member import make_member


class Cluster:
    """Members that take what they are given; of the client what the command asks of it."""

    def __init__(self, folder: Path, states: dict[str, MemberState]) -> None:
        self.folder = folder
        self.members = {
            name: msgspec.structs.replace(make_member(name, f"10.0.0.{number}"), state=state)
            for number, (name, state) in enumerate(states.items(), 1)
        }
        self.revoked: list[str] = []
        self.lies = False
        self.closed: set[str] = set()
        self.breaks: set[str] = set()
        self.given: dict[str, list[GossipKeys]] = {name: [] for name in states}
        self.on_file: list[GossipKeys] = []

    def view(self) -> Any:
        return SimpleNamespace(
            members=[SimpleNamespace(member=one) for one in self.members.values()]
        )

    def everyone(self) -> list[Reached]:
        return [
            Reached(Endpoint(one.name, one.address, one.ports.http), Peer(one.name, "", 0))
            for one in self.members.values()
            if one.state is MemberState.ALIVE and one.name not in self.closed
        ]

    def call_at(self, one: Reached, method: str, path: str, **more: Any) -> bytes:
        if (method, path) == ("GET", "/v1/state?consistency=linearizable"):
            if one.peer.name in self.revoked and not self.lies:
                raise ApiError("no leader answers it")
            shut = [] if one.peer.name in self.revoked else self.revoked
            return msgspec.json.encode({"revoked": dict.fromkeys(shut, 1.0)})
        assert (method, path) == ("PUT", "/v1/gossip-keys")
        if one.peer.name in self.breaks:
            raise ApiError("it broke off")
        keys = msgspec.json.decode(more["content"], type=GossipKeys)
        assert load_gossip_keys(self.folder) == keys, "not on file yet"
        self.given[one.peer.name].append(keys)
        return b"{}"


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    save_gossip_keys(tmp_path, GossipKeys((create_gossip_key(),)))
    alive, dead = MemberState.ALIVE, MemberState.DEAD
    return Cluster(tmp_path, {"a": alive, "b": alive, "gone": dead, "out": alive})


def rekey(cluster: Cluster) -> int:
    client: Any = cluster
    return replace_gossip_key(client, cluster.folder)


@pytest.mark.parametrize("lies", [False, True])
def test_all_that_live_get_three_rings_and_who_is_revoked_none(
    cluster: Cluster, lies: bool
) -> None:
    cluster.revoked, cluster.lies = ["out"], lies
    old = load_gossip_keys(cluster.folder).keys[0]
    assert rekey(cluster) == 2
    new = load_gossip_keys(cluster.folder).keys[0]
    assert new != old
    rings = [GossipKeys((old, new)), GossipKeys((new, old)), GossipKeys((new,))]
    assert cluster.given == {"a": rings, "b": rings, "gone": [], "out": []}


def test_one_that_cannot_be_reached_holds_it_up(cluster: Cluster) -> None:
    cluster.closed = {"b"}
    before = load_gossip_keys(cluster.folder)
    with pytest.raises(ConfigError, match="b cannot be reached: no member has a new key"):
        rekey(cluster)
    assert load_gossip_keys(cluster.folder) == before
    assert not any(cluster.given.values())


def test_one_that_breaks_off_ends_it_before_the_next_ring(cluster: Cluster) -> None:
    cluster.breaks = {"b"}
    old = load_gossip_keys(cluster.folder).keys[0]
    with pytest.raises(ApiError, match="broke off"):
        rekey(cluster)
    (ring,) = cluster.given["a"]
    assert ring == load_gossip_keys(cluster.folder)
    assert ring.keys[0] == old
    cluster.breaks = set()
    assert rekey(cluster) == 3
    assert len(load_gossip_keys(cluster.folder).keys) == 1


def test_without_the_key_nothing_is_begun(cluster: Cluster) -> None:
    (cluster.folder / "gossip.key").unlink()
    with pytest.raises(IdentityError, match="No such file"):
        rekey(cluster)
