"""Everyone ever met, and who is who. Pure but for its own memory.

Invariant: a member is its id. Gossip's own names contain the address too, so one member can
appear under several: at its old address, dying, and at its new one. The one that is most alive
speaks for the member, and of two that are alike the one that started last: every member decides
the same, so two live ones with one id (a copied disk) do not fight.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from sappers.model.member import Member, MemberState

_ALIVENESS = {
    MemberState.ALIVE: 2,
    MemberState.SUSPECT: 1,
    MemberState.DEAD: 0,
    MemberState.LEFT: 0,
}


class Sighting(msgspec.Struct, frozen=True):
    """A member as gossip showed it under one of its names.

    Attributes:
        gossip_name: Unique for member and address.
        gossip_address: `ip:port`.
        epoch: Which run of the member; later ones are larger. 0 when read from disk.
    """

    gossip_name: str
    gossip_address: str
    epoch: int
    member: Member


def gossip_name(member_id: str, address: str, port: int) -> str:
    """What gossip calls a member at one address; at most 64 bytes."""
    place = hashlib.sha256(f"{member_id} {address} {port}".encode()).hexdigest()[:12]
    return f"{member_id[:48]}@{place}"


class MemberTable:
    """Sightings by gossip name, and the members that they add up to."""

    def __init__(self, known: Iterable[Member] = ()) -> None:
        """`known` were met in an earlier run; whether they live is not known yet.

        They count as suspect, so that nobody is given up only because this member restarted,
        until `give_up_unseen`.
        """
        self._sightings: dict[str, Sighting] = {}
        self._forgotten: set[str] = set()
        for member in known:
            state = member.state if member.state is MemberState.LEFT else MemberState.SUSPECT
            name = gossip_name(member.id, member.address, member.ports.gossip)
            self._sightings[name] = Sighting(
                name, join_address(member), 0, msgspec.structs.replace(member, state=state)
            )

    def see(self, sighting: Sighting) -> bool:
        """Take note; whether a member changed by it."""
        if sighting.member.id in self._forgotten:
            if _gone(sighting):
                return False  # gossip remembers it for a while
            self._forgotten.discard(sighting.member.id)
        before = self._speaker(sighting.member.id)
        self._sightings[sighting.gossip_name] = sighting
        speaker = self._speaker(sighting.member.id)
        assert speaker is not None
        for name, other in list(self._sightings.items()):
            if other.member.id != speaker.member.id or other is speaker:
                continue
            if _gone(other) and other.epoch <= speaker.epoch:
                del self._sightings[name]
        return before is None or before.member != speaker.member

    def lose(self, gossip_name: str, state: MemberState) -> bool:
        """Note that gossip has given up a name; whether a member changed by it."""
        seen = self._sightings.get(gossip_name)
        if seen is None or seen.member.state is state:
            return False
        member = msgspec.structs.replace(seen.member, state=state)
        return self.see(msgspec.structs.replace(seen, member=member))

    def forget(self, member_id: str) -> bool:
        """Know a member that is gone no more, until it is seen alive; whether it was known."""
        speaker = self._speaker(member_id)
        if speaker is None or not _gone(speaker):
            return False
        self._forgotten.add(member_id)
        for name in [n for n, seen in self._sightings.items() if seen.member.id == member_id]:
            del self._sightings[name]
        return True

    def give_up_unseen(self) -> bool:
        """Call those dead that were met in an earlier run only; whether there were any."""
        unseen = [
            name
            for name, seen in self._sightings.items()
            if seen.epoch == 0 and seen.member.state is MemberState.SUSPECT
        ]
        changed = [self.lose(name, MemberState.DEAD) for name in unseen]
        return any(changed)

    def names(self) -> tuple[str, ...]:
        """All gossip names that are alive or suspect and were seen in this run."""
        return tuple(
            name for name, seen in self._sightings.items() if seen.epoch and not _gone(seen)
        )

    def members(self) -> tuple[Member, ...]:
        """One for each id, by id."""
        ids = sorted({seen.member.id for seen in self._sightings.values()})
        return tuple(seen.member for id in ids if (seen := self._speaker(id)))  # noqa: A001

    def _speaker(self, member_id: str) -> Sighting | None:
        candidates = (seen for seen in self._sightings.values() if seen.member.id == member_id)
        return max(
            candidates,
            key=lambda seen: (_ALIVENESS[seen.member.state], seen.epoch, seen.gossip_name),
            default=None,
        )


def join_address(member: Member) -> str:
    """Where a member's gossip listens, `ip:port`."""
    return f"{bracketed(member.address)}:{member.ports.gossip}"


def bracketed(address: str) -> str:
    """An address before a port: IPv6 needs brackets."""
    return f"[{address}]" if ":" in address else address


def _gone(seen: Sighting) -> bool:
    return seen.member.state in (MemberState.DEAD, MemberState.LEFT)
