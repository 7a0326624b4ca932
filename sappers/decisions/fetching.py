"""Which chunks a member fetches next, and from whom: the rarest first, each from somebody else.

Rarest first keeps every chunk alive while whoever brought it may still vanish, and gives members
different things to offer each other. Members order equally rare chunks differently, each by its
own id: else all would ask for the same one at the same time.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet

import msgspec

_TIE_DIGITS = 15


class FetchLimits(msgspec.Struct, frozen=True):
    """How much at one time.

    Attributes:
        at_once: Chunks in all.
        per_member: Chunks from one member.
    """

    at_once: int
    per_member: int


class Fetch(msgspec.Struct, frozen=True):
    """One chunk to ask a member for."""

    chunk: str
    member_id: str


def plan_fetches(
    me_id: str,
    missing: AbstractSet[str],
    holders: Mapping[str, AbstractSet[str]],
    under_way: Mapping[str, str],
    limits: FetchLimits,
) -> tuple[Fetch, ...]:
    """What to ask for now, in this order; empty when no slot is free or nobody has anything.

    Args:
        me_id: This member, for its own order of equals.
        missing: Chunks that are wanted (64 hex digits each) and not here.
        holders: By member id: chunks that it has; only members that may be asked now.
        under_way: Chunks that are being fetched already, and the member each comes from.
        limits: How much at one time, with what is under way.
    """
    free = limits.at_once - len(under_way)
    load = Counter(under_way.values())
    if free <= 0 or not missing:
        return ()
    wanted = missing - under_way.keys()
    offers = {member_id: wanted & chunks for member_id, chunks in sorted(holders.items())}
    copies = Counter(chunk for offer in offers.values() for chunk in offer)
    ready = [member_id for member_id in offers if load[member_id] < limits.per_member]
    seed = _number(hashlib.sha256(me_id.encode()).hexdigest())
    order = sorted(
        set().union(*(offers[member_id] for member_id in ready)),
        key=lambda chunk: (copies[chunk], _number(chunk) ^ seed),
    )
    plan: list[Fetch] = []
    for chunk in order:
        if len(plan) == free or not ready:
            break
        member_id = _least_loaded(chunk, ready, offers, load, seed)
        if member_id is None:
            continue
        plan.append(Fetch(chunk, member_id))
        load[member_id] += 1
        if load[member_id] >= limits.per_member:
            ready.remove(member_id)
    return tuple(plan)


def _least_loaded(
    chunk: str,
    ready: Collection[str],
    offers: Mapping[str, AbstractSet[str]],
    load: Mapping[str, int],
    seed: int,
) -> str | None:
    """Who of those that have the chunk does least for this member; equals by lot."""
    having = [member_id for member_id in ready if chunk in offers[member_id]]
    if len(having) < 2:
        return having[0] if having else None
    least = min(load[member_id] for member_id in having)
    equals = [member_id for member_id in having if load[member_id] == least]
    return equals[(_number(chunk) ^ seed) % len(equals)]


def _number(digest: str) -> int:
    return int(digest[:_TIE_DIGITS], 16)
