"""What only an operator mends: voters that lose files, a quorum that is lost, a member's key."""

from __future__ import annotations

import asyncio

from tests.simulation.harm import Harm
from tests.simulation.hosts import Host
from tests.simulation.losses import LOSSES

_FEWEST_VOTERS = 3
_FEWEST_MEMBERS = 4
LEADERLESS_SECONDS = 15.0  # then the quorum is looked for no more
_LOOK_SECONDS = 0.5


class Catastrophes(Harm):
    """One at a time: of two that are mended by a majority, the second may be the majority.

    Attributes:
        loses_quorum: A majority of the voters is lost for good at the end.
    """

    loses_quorum = False
    _revoked: tuple[Host, asyncio.Task[None]] | None = None

    # -- files --------------------------------------------------------------------------------

    async def _lose_files(self) -> None:
        host = self._victim()
        if not self._can_do_without(host):
            return
        what = self._chance.choice(sorted(LOSSES))
        self._note(f"{host.name} loses its power and {what}")
        had_vote = host.has_memory or host.name in self._watch.newest().electorate
        if host.lose(LOSSES[what]) and had_vote:
            self._watch.forgot(host.name)
        await self._for_a_while(0.2, 4.0)
        if not host.is_up:
            host.boot()
        if self._chance.random() < 0.5:
            await self._for_a_while(0.5, 8.0)
            await self.raft.reseed(host)

    def _can_do_without(self, host: Host) -> bool:
        """Whether the others are a quorum that remembers all, now and after what is under way."""
        voters = self._watch.newest().electorate
        return (
            host.is_present
            and not self.loses_quorum
            and len(voters) >= _FEWEST_VOTERS
            and self.all_remember
            and not any(
                one.has_pending_change or one.is_revoked or one.is_failed for one in self._hosts
            )
        )

    @property
    def all_remember(self) -> bool:
        """Whether each voter has all that it voted with."""
        return all(self._watch.remembers(one) for one in self._watch.newest().electorate)

    async def mend_voters(self) -> None:
        """For ever: whoever is in trouble is reseeded; where that has no quorum, one goes on."""
        led_at = self._loop.time()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            troubled = [one for one in self._hosts if one.is_present and one.trouble]
            if not troubled or any(one.knows_leader for one in self._hosts):
                led_at = self._loop.time()
            if troubled and self._loop.time() - led_at > LEADERLESS_SECONDS:
                await self.raft.recover()
            elif troubled:
                self._watch.note(f"operator: reseeds {troubled[0].name}: {troubled[0].trouble}")
                await self.raft.reseed(troubled[0], self._loop.time() + LEADERLESS_SECONDS)

    # -- the quorum ---------------------------------------------------------------------------

    async def lose_quorum(self) -> None:
        """A majority of the voters burns; perhaps it was alone with what was said last."""
        for task in self._under_way:
            task.cancel()
        voters = list(self._watch.newest().electorate)
        self._chance.shuffle(voters)
        lost = voters[: len(voters) // 2 + 1]
        left = [one for one in voters if one not in lost]
        # Who has not begun to vote yet has no log to go on with: without another all begins anew.
        if not any(one.is_present and one.has_memory and one.name in left for one in self._hosts):
            self.loses_quorum = False
            return
        if self._chance.random() < 0.7:
            apart = left if self._chance.random() < 0.5 else left[:1]
            links = [(a, b) for a in apart for b in lost]
            links += [(b, a) for a, b in links]
            await self._cut(links, f"{lost} and {apart} are apart", 0.2, 0.9)
        self._note(f"{lost} burn")
        for host in [one for one in self._hosts if one.name in lost]:
            host.lose_for_good()
            self._hosts.remove(host)

    async def recover(self) -> None:
        """Until it is done, if it was lost: nobody else can do anything."""
        while self.loses_quorum:
            if await self.raft.recover():
                return
            await asyncio.sleep(_LOOK_SECONDS)

    # -- certificates -------------------------------------------------------------------------

    async def _revoke(self) -> None:
        """A voter, a leader or another; gossip has another key soon after."""
        host = self._victim()
        present = [one for one in self._hosts if one.is_present]
        voters = self._watch.newest().electorate
        if (
            len(present) < _FEWEST_MEMBERS
            or self._drained is not None
            or not self._can_do_without(host)
            or any(one.is_failed or one.is_stopped for one in self._hosts)
        ):
            return
        self._drained = host
        self._note(f"{host.name} is revoked")
        host.is_revoked = True
        with_vote = host.name in voters and self._chance.random() < 0.3
        work = self._begin(self.raft.revoke(host, with_vote=with_vote))
        self._revoked = host, work
        await asyncio.shield(work)
        await self._for_a_while(0.0, 3.0)
        await self._seal_out()

    async def _seal_out(self) -> None:
        """The others have another gossip key."""
        if self._revoked is not None:
            host, work = self._revoked
            await asyncio.shield(work)
            self._note(f"gossip has another key, and {host.name} has not")
            self._network.sealed_out.add(host.name)
