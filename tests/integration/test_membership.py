"""Gossip between real nodes on loopback addresses."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import kinship
import msgspec
import pytest

from sappers.config import AgentSettings
from sappers.errors import MembershipError
from sappers.membership.gossip import KinshipMembership
from sappers.membership.known_members import save_known_members
from sappers.model.gossip_keys import GossipKeys, rings_to
from sappers.model.member import Accelerator, Member, MemberState, Ports, Resources
from tests.loopback import free_port
from tests.waiting import eventually

ALIVE, SUSPECT, DEAD, LEFT = MemberState


class Group:
    """Members of one cluster, each on a loopback address of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = Ports(gossip=free_port())
        self.key = base64.b64encode(os.urandom(32)).decode()
        self.running: list[KinshipMembership] = []

    def member(self, name: str, address: str) -> Member:
        return Member(
            name, name, address, self.ports, Resources(2, 1024), Accelerator("tcg", "x"), "0.1"
        )

    def build(
        self, name: str, address: str, *peers: str, key: str | None = None, cluster: str = "test"
    ) -> KinshipMembership:
        settings = AgentSettings(
            cluster=cluster,
            node_name=name,
            address=address,
            ports=self.ports,
            peers=tuple(f"{peer}:{self.ports.gossip}" for peer in peers),
        )
        return KinshipMembership(
            me=self.member(name, address),
            settings=settings,
            keys=GossipKeys((key or self.key,)),
            known=self.folder / f"{name}.json",
        )

    async def start(self, name: str, address: str, *peers: str, **more: str) -> KinshipMembership:
        membership = self.build(name, address, *peers, **more)
        await membership.start()
        self.running.append(membership)
        return membership

    async def stop(self, membership: KinshipMembership, *, leave: bool = False) -> None:
        self.running.remove(membership)
        await membership.stop(leave=leave)


@pytest.fixture
async def group(tmp_path: Path) -> AsyncIterator[Group]:
    group = Group(tmp_path)
    yield group
    await asyncio.gather(*(one.stop(leave=False) for one in group.running))


def sees(one: KinshipMembership, **states: MemberState) -> Callable[[], bool]:
    return lambda: {member.id: member.state for member in one.members()} == states


async def test_three_meet_and_tell_what_changes(group: Group) -> None:
    a = await group.start("a", "127.0.0.1")
    changed = asyncio.create_task(anext(a.changes()))
    b = await group.start("b", "127.0.0.2", "127.0.0.1")
    c = await group.start("c", "127.0.0.3", "127.0.0.1")
    for one in (a, b, c):
        await eventually(sees(one, a=ALIVE, b=ALIVE, c=ALIVE))
    await asyncio.wait_for(changed, 30.0)
    assert [member.address for member in c.members()] == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    await b.publish(msgspec.structs.replace(b.members()[1], has_vote=True, zone="rack-1"))
    await eventually(lambda: (it := c.members()[1]).has_vote and it.zone == "rack-1")


async def test_a_death_is_seen_and_the_dead_are_remembered(group: Group) -> None:
    a = await group.start("a", "127.0.0.1")
    b = await group.start("b", "127.0.0.2", "127.0.0.1")
    c = await group.start("c", "127.0.0.3", "127.0.0.1")
    await eventually(sees(a, a=ALIVE, b=ALIVE, c=ALIVE))
    await eventually(sees(c, a=ALIVE, b=ALIVE, c=ALIVE))
    await group.stop(b)
    await eventually(sees(a, a=ALIVE, b=DEAD, c=ALIVE))
    await group.start("b", "127.0.0.9", "127.0.0.1")
    for one in (a, c):
        await eventually(sees(one, a=ALIVE, b=ALIVE, c=ALIVE))
        assert one.members()[1].address == "127.0.0.9"


async def test_one_that_left_and_one_that_moved_before_its_death_was_noticed(group: Group) -> None:
    a = await group.start("a", "127.0.0.1")
    b = await group.start("b", "127.0.0.2", "127.0.0.1")
    await eventually(sees(a, a=ALIVE, b=ALIVE))
    await group.stop(b, leave=True)
    await eventually(sees(a, a=ALIVE, b=LEFT))
    b = await group.start("b", "127.0.0.2", "127.0.0.1")
    await eventually(sees(a, a=ALIVE, b=ALIVE))
    await group.stop(b)
    await group.start("b", "127.0.0.9", "127.0.0.1")
    await eventually(lambda: a.members()[1].address == "127.0.0.9")
    await eventually(sees(a, a=ALIVE, b=ALIVE))


async def test_a_restarted_member_finds_everybody_without_peers(group: Group) -> None:
    """As after a partition that outlasted gossip's own memory: nobody is told any address."""
    save_known_members(
        group.folder / "a.json",
        [
            msgspec.structs.replace(group.member("b", "127.0.0.2"), state=DEAD),
            group.member("gone", "127.0.0.8"),
        ],
    )
    a = await group.start("a", "127.0.0.1")
    assert sees(a, a=ALIVE, b=SUSPECT, gone=SUSPECT)()
    b = await group.start("b", "127.0.0.2")
    await eventually(sees(b, a=ALIVE, b=ALIVE))
    await eventually(sees(a, a=ALIVE, b=ALIVE, gone=DEAD))


async def test_strangers_stay_outside(group: Group) -> None:
    a = await group.start("a", "127.0.0.1")
    other = base64.b64encode(os.urandom(32)).decode()
    stranger = await group.start("s", "127.0.0.2", "127.0.0.1", key=other)
    neighbour = await group.start("n", "127.0.0.3", "127.0.0.1", cluster="other")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as garbage:
        for _ in range(50):
            garbage.sendto(os.urandom(200), ("127.0.0.1", group.ports.gossip))
    _, writer = await asyncio.open_connection("127.0.0.1", group.ports.gossip)
    writer.write(os.urandom(4096))
    await group.start("b", "127.0.0.4", "127.0.0.1")
    await eventually(sees(a, a=ALIVE, b=ALIVE))
    assert sees(stranger, s=ALIVE)()
    assert sees(neighbour, n=ALIVE)()
    writer.close()


async def test_gibberish_of_an_authenticated_member_harms_nobody(group: Group) -> None:
    a = await group.start("a", "127.0.0.1")
    place = f"127.0.0.5:{group.ports.gossip}"
    config = kinship.Config.lan(
        name="evil",
        bind=place,
        advertise=place,
        cluster="test",
        keys=[group.key],
        seeds=[f"127.0.0.1:{group.ports.gossip}"],
        meta={"id": "\x1b[2J", "p": "NaN"},
    )
    evil = await kinship.Cluster(config).start()
    try:
        await evil.set_meta({"id": "a", "n": "a", "p": "1,2", "r": "1,1", "a": "tcg"})
        await group.start("b", "127.0.0.2", "127.0.0.1")
        await eventually(sees(a, a=ALIVE, b=ALIVE))
        assert a.members()[0].address == "127.0.0.1"
    finally:
        await evil.close()


async def test_what_cannot_start_says_why(group: Group) -> None:
    await group.start("a", "127.0.0.1")
    with pytest.raises(MembershipError, match="already in use"):
        await group.build("b", "127.0.0.1").start()
    with pytest.raises(MembershipError, match="32-byte keys") as caught:
        await group.build("b", "127.0.0.2", key="c2hvcnQ=").start()
    assert "c2hvcnQ=" not in caught.value.message
    with pytest.raises(MembershipError, match="seeds"):
        await group.build("b", "127.0.0.2", "no:such:peer").start()


async def test_a_new_key_is_taken_on_and_who_is_not_given_it_hears_nothing_more(
    group: Group,
) -> None:
    a = await group.start("a", "127.0.0.2")
    b = await group.start("b", "127.0.0.3", "127.0.0.2")
    out = await group.start("out", "127.0.0.4", "127.0.0.2")
    await eventually(sees(a, a=ALIVE, b=ALIVE, out=ALIVE))
    await eventually(sees(out, a=ALIVE, b=ALIVE, out=ALIVE))
    new = base64.b64encode(os.urandom(32)).decode()
    for keys in rings_to(GossipKeys((group.key,)), new):
        for one in (a, b):
            await one.use_keys(keys)
            assert a._cluster is not None
            assert {m.id: m.state for m in a.members()}["b"] is ALIVE
    await eventually(sees(a, a=ALIVE, b=ALIVE, out=DEAD))
    await eventually(sees(b, a=ALIVE, b=ALIVE, out=DEAD))
    await eventually(sees(out, a=DEAD, b=DEAD, out=ALIVE))
    assert a._cluster.keyring.key_ids() != out._cluster.keyring.key_ids()
    assert len(a._cluster.keyring.key_ids()) == 1
