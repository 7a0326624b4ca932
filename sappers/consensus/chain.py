"""The chain of events, as the state machine makes it. Pure.

Invariant: the same entries give the same events with the same digests on every member, whether they
were applied one by one or stand in a snapshot. `event_head` is the digest of the newest event and
so of all before it; a cause is the number of an event that is further back in the same chain.
"""

from __future__ import annotations

import immutables
import msgspec

from sappers.consensus.step import Happened
from sappers.model.cluster_state import EVENTS_KEPT, ClusterState
from sappers.model.commands import Entry, Proposal
from sappers.model.event import Event, event_digest

_NEWEST_SPARE = 1000  # of `newest_events`, beyond two for each thing that there is


def chained(
    state: ClusterState, entry: Entry, proposal: Proposal, happened: tuple[Happened, ...]
) -> tuple[ClusterState, tuple[Event, ...]]:
    """The state with what happened as events at the end of its chain, and these."""
    if not happened:
        return state, ()
    head = state.event_head or (event_digest(state.events[-1]) if state.events else "")
    # An entry of a version that named nobody makes what it made then: the digests stay the same.
    counted = bool(proposal.by) or state.event_count > 0
    number = state.event_count or len(state.events)
    newest = state.newest_events
    events: list[Event] = []
    for one in happened:
        number += 1
        event = Event(
            index=entry.index,
            term=entry.term,
            time=proposal.time,
            kind=one.kind,
            subject=one.subject,
            text=one.text,
            member_id=proposal.proposer,
            previous=head,
            number=number if counted else 0,
            by=proposal.by,
            cause=_cause(one, newest) if counted else 0,
        )
        head = event_digest(event)
        events.append(event)
        if counted:
            for thing in (event.about, *one.also):
                newest = newest.set(thing, number)
    kept = state.events.appended(events, EVENTS_KEPT)
    if counted:
        changed = msgspec.structs.replace(
            state, events=kept, event_count=number, event_head=head, newest_events=newest
        )
    else:
        changed = msgspec.structs.replace(state, events=kept)
    return _pruned(changed), tuple(events)


def _cause(one: Happened, newest: immutables.Map[str, int]) -> int:
    follows = one.follows
    if follows is None:
        follows = (f"{one.kind.partition('.')[0]}/{one.subject}",)
    for thing in follows:
        if number := newest.get(thing, 0):
            return number
    return 0


def _pruned(state: ClusterState) -> ClusterState:
    """Without the newest events of things that are gone for long: the table stays bounded."""
    tables = (state.members, state.workloads, state.allocations, state.repairs, state.images)
    if len(state.newest_events) <= 2 * sum(map(len, tables)) + _NEWEST_SPARE:
        return state
    oldest = state.events[0].number
    sorts = ("member", "workload", "allocation", "repair", "image")
    there = {f"{sort}/{key}" for sort, table in zip(sorts, tables, strict=True) for key in table}
    kept = {
        thing: number
        for thing, number in state.newest_events.items()
        if number >= oldest or thing.replace("state/", "member/", 1) in there
    }
    return msgspec.structs.replace(state, newest_events=immutables.Map(kept))
