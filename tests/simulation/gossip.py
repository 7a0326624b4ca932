"""Gossip simulated: who hears whom, if by way of a third; silence makes suspect, then dead."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

import msgspec

from sappers.consensus.news import News
from sappers.model.member import Member, MemberState
from tests.simulation.loop import Life, VirtualLoop
from tests.simulation.network import Network

PROBE_SECONDS = 0.5
SUSPECT_SECONDS, DEAD_SECONDS = 1.2, 3.5


class Gossip:
    """All members' talk, one round each half a second."""

    def __init__(self, loop: VirtualLoop, network: Network) -> None:
        self._loop = loop
        self._network = network
        self.talking: dict[str, SimulatedMembership] = {}
        loop.call_later(PROBE_SECONDS, self._round)

    def now(self) -> float:
        return self._loop.time()

    def _round(self) -> None:
        self._loop.call_later(PROBE_SECONDS, self._round)
        awake = [
            one
            for _, one in sorted(self.talking.items())
            if not one.life.is_paused and not one.life.is_over
        ]
        direct = {
            (a.me.id, b.me.id)
            for a in awake
            for b in awake
            if self._network.talk(a.me.id, b.me.id)
            and not {a.me.id, b.me.id} & self._network.sealed_out
        }
        for one in awake:
            for other in awake:
                ways = [third.me.id for third in awake]
                if one is not other and any(
                    (one.me.id, way) in direct and (way, other.me.id) in direct for way in ways
                ):
                    one.hear(other)
        for one in awake:
            one.judge()


class SimulatedMembership:
    """Implements `ports.Membership` for one agent's life."""

    def __init__(
        self, gossip: Gossip, life: Life, me: Member, remembered: dict[str, Member]
    ) -> None:
        """`remembered`: everyone whom this host has ever met; it outlives the agent."""
        self._gossip = gossip
        self.life = life
        self.me = me
        self.heard_at: dict[str, float] = {}
        self.heard_at |= dict.fromkeys(remembered, gossip.now())
        self.known = remembered
        self.known[me.id] = me
        self._forgotten: set[str] = set()
        self._news = News()
        self._told = tuple(one for _, one in sorted(self.known.items()))
        life.at_end(self._silence)

    async def start(self) -> None:
        self._gossip.talking[self.me.id] = self

    async def stop(self, *, leave: bool) -> None:
        if leave:
            for other in self._gossip.talking.values():
                if self.me.id in other.known:
                    other.note(msgspec.structs.replace(self.me, state=MemberState.LEFT))
        self._silence()

    def _silence(self) -> None:
        if self._gossip.talking.get(self.me.id) is self:
            del self._gossip.talking[self.me.id]

    def members(self) -> tuple[Member, ...]:
        return self._told

    async def publish(self, me: Member) -> None:
        self.me = me
        self.note(me)

    def changes(self) -> AsyncIterator[None]:
        return self._news.listen()

    def forget(self, member_ids: Collection[str]) -> None:
        for one in member_ids:
            self._forgotten.add(one)
            del self.known[one]
        if member_ids:
            self._tell()

    def hear(self, other: SimulatedMembership) -> None:
        """Its word about itself, and whom it knows that we do not."""
        self._forgotten.discard(other.me.id)
        self.heard_at[other.me.id] = self._gossip.now()
        self.note(msgspec.structs.replace(other.me, state=MemberState.ALIVE))
        for member in other.known.values():
            if member.id not in self.known and member.id not in self._forgotten:
                self.note(member)

    def judge(self) -> None:
        """What silence means."""
        for member in list(self.known.values()):
            if member.id == self.me.id or member.state is MemberState.LEFT:
                continue
            silence = self._gossip.now() - self.heard_at.get(member.id, -1e9)
            if silence > DEAD_SECONDS:
                self.note(msgspec.structs.replace(member, state=MemberState.DEAD))
            elif silence > SUSPECT_SECONDS and member.state is MemberState.ALIVE:
                self.note(msgspec.structs.replace(member, state=MemberState.SUSPECT))

    def note(self, member: Member) -> None:
        if self.known.get(member.id) != member:
            self.known[member.id] = member
            self._tell()

    def _tell(self) -> None:
        self._told = tuple(one for _, one in sorted(self.known.items()))
        # Within the agent's own life, as its library would tell it.
        self._gossip._loop.call_soon(self._news.tell, context=self.life.context)
