"""Gossip simulated: who hears whom, if by way of a third; silence makes suspect, then dead.

kinship itself is a library with threads and sockets of its own. What is made of its word is real:
who speaks for a member that has moved or was started again, and what is remembered and forgotten.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

import msgspec

from sappers.consensus.news import News
from sappers.membership.table import MemberTable, Sighting, gossip_name, join_address
from sappers.model.member import Member, MemberState
from tests.simulation.loop import Life, VirtualLoop
from tests.simulation.network import Network

PROBE_SECONDS = 0.5
SUSPECT_SECONDS, DEAD_SECONDS = 1.2, 3.5
GIVE_UP_UNSEEN_SECONDS = 10.0


class Gossip:
    """All members' talk, one round each half a second."""

    def __init__(self, loop: VirtualLoop, network: Network) -> None:
        self._loop = loop
        self._network = network
        self.talking: dict[str, SimulatedMembership] = {}
        self._epochs = 0
        loop.call_later(PROBE_SECONDS, self._round)

    def next_epoch(self) -> int:
        """Of a run that begins; later ones are larger."""
        self._epochs += 1
        return self._epochs

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
    """Implements `ports.Membership` for one agent's life, with the real one's table."""

    def __init__(
        self, gossip: Gossip, life: Life, me: Member, remembered: dict[str, Member]
    ) -> None:
        """`remembered`: everyone whom this host has ever met; it outlives the agent."""
        self._gossip = gossip
        self.life = life
        self.me = me
        self._remembered = remembered
        self._epoch = gossip.next_epoch()
        self._table = MemberTable(one for _, one in sorted(remembered.items()) if one.id != me.id)
        self._heard_at: dict[str, float] = {}  # by the name that gossip has for it
        self._gives_up_at = gossip.now() + GIVE_UP_UNSEEN_SECONDS
        self._news = News()
        self._told = self._now_known()
        life.at_end(self._silence)

    async def start(self) -> None:
        self._gossip.talking[self.me.id] = self

    async def stop(self, *, leave: bool) -> None:
        if leave:
            for _, other in sorted(self._gossip.talking.items()):
                if other is not self and other.lose(self.name, MemberState.LEFT):
                    other.tell()
        self._silence()

    def _silence(self) -> None:
        if self._gossip.talking.get(self.me.id) is self:
            del self._gossip.talking[self.me.id]

    @property
    def name(self) -> str:
        """What gossip calls it where it is now."""
        return gossip_name(self.me.id, self.me.address, self.me.ports.gossip)

    def members(self) -> tuple[Member, ...]:
        return self._told

    async def publish(self, me: Member) -> None:
        self.me = me
        self.tell()

    def changes(self) -> AsyncIterator[None]:
        return self._news.listen()

    def forget(self, member_ids: Collection[str]) -> None:
        changed = [self._table.forget(one) for one in member_ids]
        if any(changed):
            self.tell()

    def hear(self, other: SimulatedMembership) -> None:
        """Its word about itself."""
        self._heard_at[other.name] = self._gossip.now()
        if self._table.see(other.sighting()):
            self.tell()

    def sighting(self) -> Sighting:
        """As others see it."""
        alive = msgspec.structs.replace(self.me, state=MemberState.ALIVE)
        return Sighting(self.name, join_address(self.me), self._epoch, alive)

    def lose(self, name: str, state: MemberState) -> bool:
        return self._table.lose(name, state)

    def judge(self) -> None:
        """What silence means."""
        now, news = self._gossip.now(), []
        for name in self._table.names():
            silence = now - self._heard_at.get(name, -1e9)
            if silence > DEAD_SECONDS:
                news.append(self._table.lose(name, MemberState.DEAD))
                self._heard_at.pop(name, None)
            elif silence > SUSPECT_SECONDS:
                news.append(self._table.lose(name, MemberState.SUSPECT))
        if now >= self._gives_up_at:
            news.append(self._table.give_up_unseen())
        if any(news):
            self.tell()

    def _now_known(self) -> tuple[Member, ...]:
        others = [one for one in self._table.members() if one.id != self.me.id]
        return tuple(sorted((self.me, *others), key=lambda one: one.id))

    def tell(self) -> None:
        known = self._now_known()
        if known == self._told:
            return
        self._told = known
        self._remembered.clear()
        self._remembered.update({one.id: one for one in known})
        # Within the agent's own life, as its library would tell it.
        self._gossip._loop.call_soon(self._news.tell, context=self.life.context)
