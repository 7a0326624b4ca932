"""Calls that change nothing. Any member answers from its own replica."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response

from sappers.api.call import PROPOSE_TIMEOUT_SECONDS, Call
from sappers.api.catching_up import state_at_least
from sappers.api.metrics import metrics_text
from sappers.api.wire import (
    Allocations,
    EntriesQuery,
    Events,
    EventsQuery,
    LogQuery,
    Members,
    RepairAccess,
    StateQuery,
    Workloads,
)
from sappers.errors import ApiError, NoQuorum
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import state_as_json
from sappers.model.commands import Entry, NoOperation
from sappers.model.event import Event, EventCheck, EventFilter, Story, after_index
from sappers.model.gossip_keys import GossipKeys
from sappers.model.view import ClusterView, MemberHealth
from sappers.ports import QuorumHeard

AGE_HEADER = "sappers-state-age"
ENTRIES_BYTES_MAX = 8 * 1024 * 1024


async def health(call: Call) -> MemberHealth:
    """GET /v1/health."""
    return await call.service.health()


async def status(call: Call) -> ClusterView:
    """GET /v1/status."""
    return await call.service.view()


async def members(call: Call) -> Members:
    """GET /v1/members."""
    return Members(call.service.members())


async def state(call: Call) -> Response:
    """GET /v1/state."""
    state, age = await _state(call)
    headers = {AGE_HEADER: f"{age:.3f}"} if age is not None else {}
    return Response(state_as_json(state), media_type="application/json", headers=headers)


async def repair_access(call: Call) -> RepairAccess:
    """GET /v1/repair-key."""
    state = call.service.log.state()
    logins = tuple(login for _, login in sorted(state.repair_logins.items()))
    key = state.repair_key
    if key is None:
        return RepairAccess(state.index, "", logins)
    return RepairAccess(state.index, key.public, logins, key.image_keys, key.number)


async def events(call: Call) -> Events:
    """GET /v1/events."""
    query: EventsQuery = call.query
    state = call.service.log.state()
    if query.after is not None or query.filter() == EventFilter():
        return Events(state.index, pick_events(state.events, query.after, query.limit))
    return Events(state.index, await call.service.events.read(query.filter(), query.limit))


async def check_events(call: Call) -> EventCheck:
    """GET /v1/events/check."""
    return await call.service.events.check()


async def explain(call: Call) -> Story:
    """GET /v1/explain/{name}."""
    story = await call.service.events.explain(call.path.name)
    if story is None:
        raise ApiError(
            f"nothing of the name {call.path.name} is known",
            status=404,
            hint="sappers-deploy status lists members and workloads, ps -a allocations",
        )
    return story


def pick_events(events: Sequence[Event], after: int | None, limit: int) -> tuple[Event, ...]:
    """The first `limit` events after an index, or the newest; events of one entry stay together."""
    if after is None:
        return tuple(events[-limit:])
    later = after_index(events, after)
    end = min(limit, len(later))
    while 0 < end < len(later) and later[end].index == later[end - 1].index:
        end += 1
    return later[:end]


async def workloads(call: Call) -> Workloads:
    """GET /v1/workloads."""
    state, age = await _state(call)
    return Workloads(state.index, tuple(w for _, w in sorted(state.workloads.items())), age)


async def allocations(call: Call) -> Allocations:
    """GET /v1/allocations."""
    state, age = await _state(call)
    return Allocations(state.index, tuple(a for _, a in sorted(state.allocations.items())), age)


async def _state(call: Call) -> tuple[ClusterState, float | None]:
    """This member's replica, and how old it may be in seconds.

    Where the query wants so, it is as new as the call.

    Raises:
        NoQuorum, OutcomeUnknown: Nobody can say how new it is, it is older than wanted, or this
            member lags.
    """
    query: StateQuery = call.query
    log = call.service.log
    if query.consistency == "linearizable":
        applied = await call.service.propose(call.proposal(NoOperation()), PROPOSE_TIMEOUT_SECONDS)
        return await state_at_least(call.service, applied.index, applied.term), 0.0
    state, age = log.state(), log.state_age()
    if query.max_age is not None and (age is None or age > query.max_age):
        how_old = "of unknown age" if age is None else f"{age:.1f} s old"
        raise NoQuorum(
            f"this member's state is {how_old}, at most {query.max_age:g} s are wanted",
            status=503,
            hint="it is cut off, or the cluster has no leader: ask another member",
        )
    return state, age


async def guest_log(call: Call) -> str:
    """GET /v1/allocations/{id}/log."""
    query: LogQuery = call.query
    _member_of(call)
    return await call.service.serial_log(call.path.id, query.tail_bytes)


async def local_guest_log(call: Call) -> str:
    """GET /v1/local-log/{id}: never asks another member, so two of them cannot ask each other."""
    query: LogQuery = call.query
    if _member_of(call) != call.service.me.id:
        raise ApiError(f"{call.path.id} is not a guest of this member", status=404)
    return await call.service.serial_log(call.path.id, query.tail_bytes)


def _member_of(call: Call) -> str:
    allocation = call.service.log.state().allocations.get(call.path.id)
    if allocation is None:
        raise ApiError(
            f"no allocation {call.path.id}", status=404, hint="sappers-deploy ps -a lists them"
        )
    return allocation.member_id


async def entries(call: Call) -> tuple[Entry, ...]:
    """GET /v1/log: at most `limit` entries, and no more than about 8 MiB of them."""
    query: EntriesQuery = call.query
    found = call.service.log.entries_after(query.after, query.limit)
    if found is None:
        raise ApiError(
            f"entries after {query.after} are compacted away",
            status=410,
            hint="start from GET /v1/snapshot",
        )
    size = 0
    for count, entry in enumerate(found, start=1):
        size += len(entry.payload)
        if size >= ENTRIES_BYTES_MAX:
            return tuple(found[:count])
    return tuple(found)


async def snapshot(call: Call) -> Response:
    """GET /v1/snapshot."""
    return Response(await call.service.log.written_snapshot(), media_type="application/msgpack")


async def gossip_keys(call: Call) -> GossipKeys:
    """GET /v1/gossip-keys."""
    return call.service.gossip_keys()


async def quorum(call: Call) -> QuorumHeard:
    """GET /v1/quorum."""
    return await call.service.hear_quorum()


async def metrics(call: Call) -> str:
    """GET /metrics."""
    service = call.service
    return metrics_text(
        service.me,
        service.members(),
        service.log.status(),
        service.log.state(),
        hub_connected=service.hub_connected,
        images=service.images.figures(),
        refused=service.refused(),
        pushes=service.pushes_heard(),
    )
