"""The routes of a member's HTTP API: a table. `app` serves it, `openapi` describes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sappers.api import backups, images, raft, reads, writes
from sappers.api.raft_wire import RaftReport, WantedLeader, WantedRecovery
from sappers.api.route import (
    AGENTS,
    BYTES,
    MSGPACK,
    OPERATORS,
    TEXT,
    Answer,
    Route,
)
from sappers.api.state_document import StateDocument
from sappers.api.wire import (
    AllocationPath,
    Allocations,
    ChunkPath,
    ChunksQuery,
    EntriesQuery,
    Events,
    EventsFrom,
    EventsQuery,
    ExplainPath,
    ImageKeyPath,
    ImageKeys,
    ImagePath,
    Images,
    LogQuery,
    MemberPath,
    Members,
    NoInput,
    OlderEvents,
    RepairAccess,
    RestorePath,
    SnapshotTaken,
    StateQuery,
    WantedCordon,
    WantedImageKey,
    WantedLogLevel,
    WantedRepairKey,
    WantedRestore,
    WantedWorkload,
    Warmed,
    WorkloadPath,
    Workloads,
    Written,
)
from sappers.model.backup import TakenState
from sappers.model.chunks_here import ChunksHere
from sappers.model.commands import Entry, Proposal
from sappers.model.event import EventCheck, Story
from sappers.model.gossip_keys import GossipKeys
from sappers.model.image import FRAME_BYTES_MAX, SignedManifest
from sappers.model.view import ClusterView, Genesis, MemberHealth
from sappers.ports import Applied, QuorumHeard

# In base64 one of 16 GiB has 1.5 MB.
MANIFEST_BODY_BYTES_MAX = 4 * 1024 * 1024
EVENTS_BODY_BYTES_MAX = 4 * 1024 * 1024

# Statuses: the cluster cannot commit; it is not known whether it did.
NO_QUORUM = (503, 504)


def _get(path: str, summary: str, answer: Answer, **more: Any) -> Route:
    return Route(method="GET", path=path, summary=summary, answer=answer, **more)


def _get_state(path: str, summary: str, answer: Answer, **more: Any) -> Route:
    return _get(path, summary, answer, of_state=True, **more)


def _write(method: str, path: str, summary: str, answer: Answer, **more: Any) -> Route:
    return Route(method=method, path=path, summary=summary, answer=answer, **more)


def _commit(
    method: str,
    path: str,
    summary: str,
    answer: Answer,
    *,
    response: Any = Written,
    errors: tuple[int, ...] = (),
    **more: Any,
) -> Route:
    """A call that answers once the log has it, and so not without a quorum."""
    errors = (*errors, *NO_QUORUM)
    return _write(method, path, summary, answer, response=response, errors=errors, **more)


_STATE: Mapping[str, Any] = {"query": StateQuery, "errors": NO_QUORUM}
_ALLOCATION: Mapping[str, Any] = {"path_type": AllocationPath, "query": LogQuery, "media": TEXT}
_WORKLOAD: Mapping[str, Any] = {"path_type": WorkloadPath}
_IMAGE: Mapping[str, Any] = {"path_type": ImagePath}
_CHUNK: Mapping[str, Any] = {"path_type": ChunkPath}
_KEY: Mapping[str, Any] = {"path_type": ImageKeyPath, "roles": OPERATORS}
_MEMBER: Mapping[str, Any] = {"path_type": MemberPath, "roles": OPERATORS}

ROUTES: tuple[Route, ...] = (
    _get("/v1/health", "Whether this member's agent lives", reads.health, response=MemberHealth),
    _get_state("/v1/status", "The cluster at a glance", reads.status, response=ClusterView),
    _get("/v1/members", "Everyone gossip knows", reads.members, response=Members),
    _get_state(
        "/v1/state",
        "This member's replica of the state",
        reads.state,
        response=StateDocument,
        **_STATE,
    ),
    _get_state(
        "/v1/events",
        "What happened",
        reads.events,
        response=Events,
        query=EventsQuery,
    ),
    _write(
        "PUT",
        "/v1/events",
        "Write down events of a backup that lead to what is on this member's record",
        backups.put_events,
        response=EventsFrom,
        body=OlderEvents,
        body_bytes_max=EVENTS_BODY_BYTES_MAX,
        roles=OPERATORS,
        errors=(413, 507),
    ),
    _get(
        "/v1/events/check",
        "Whether this member's record of events is whole, and digests to compare",
        reads.check_events,
        response=EventCheck,
    ),
    _get_state(
        "/v1/explain/{name}",
        "What led to how something is",
        reads.explain,
        path_type=ExplainPath,
        response=Story,
        errors=(404,),
    ),
    _get_state("/v1/workloads", "What should run", reads.workloads, response=Workloads, **_STATE),
    _commit(
        "PUT",
        "/v1/workloads/{name}",
        "Run this, or change it",
        writes.put_workload,
        **_WORKLOAD,
        body=WantedWorkload,
        errors=(409,),
    ),
    _commit(
        "DELETE",
        "/v1/workloads/{name}",
        "Run it no more",
        writes.delete_workload,
        **_WORKLOAD,
        errors=(404, 409),
    ),
    _get_state(
        "/v1/allocations", "What runs where", reads.allocations, response=Allocations, **_STATE
    ),
    _get(
        "/v1/allocations/{id}/log",
        "The end of what a guest printed",
        reads.guest_log,
        **_ALLOCATION,
        errors=(404,),
    ),
    _get(
        "/v1/local-log/{id}",
        "The same, for a guest of this member only",
        reads.local_guest_log,
        **_ALLOCATION,
        roles=AGENTS,
        errors=(404,),
    ),
    _commit(
        "POST",
        "/v1/proposals",
        "Commit a proposal; only the leader can",
        writes.propose_here,
        response=Applied,
        body=Proposal,
        body_media=MSGPACK,
        roles=AGENTS,
    ),
    _get(
        "/v1/log",
        "Committed entries after an index; 410 when they are compacted away",
        reads.entries,
        response=tuple[Entry, ...],
        media=MSGPACK,
        query=EntriesQuery,
        roles=AGENTS,
        errors=(410,),
    ),
    _get(
        "/v1/snapshot",
        "The newest snapshot, to start from, or the state where the log after it is gone",
        reads.snapshot,
        media=MSGPACK,
        roles=AGENTS,
    ),
    _write(
        "POST",
        "/v1/snapshot",
        "Write this member's state to disk and compact its log",
        writes.take_snapshot,
        response=SnapshotTaken,
        errors=NO_QUORUM,
    ),
    _write(
        "PUT",
        "/v1/log-level",
        "What this member's agent logs, until it is started again",
        writes.put_log_level,
        response=NoInput,
        body=WantedLogLevel,
    ),
    _get(
        "/v1/gossip-keys",
        "What gossip is sealed with: for members that were away while it changed",
        reads.gossip_keys,
        response=GossipKeys,
        roles=AGENTS,
    ),
    _write(
        "PUT",
        "/v1/gossip-keys",
        "Seal gossip with the first of these, and open it with any",
        writes.put_gossip_keys,
        response=NoInput,
        body=GossipKeys,
        roles=OPERATORS,
    ),
    _get(
        "/v1/hub-credentials",
        "Credentials that hear everything on the hub and say nothing, by this member's key",
        reads.hub_credentials,
        media=TEXT,
        roles=OPERATORS,
    ),
    _write(
        "PUT",
        "/v1/genesis",
        "Become a first voter",
        writes.put_genesis,
        response=NoInput,
        body=Genesis,
        roles=AGENTS,
        errors=(409,),
    ),
    _write(
        "POST",
        "/v1/backup",
        "The management state, as new as this call, without secrets",
        backups.take,
        response=TakenState,
        media=MSGPACK,
        roles=OPERATORS,
        errors=(409, *NO_QUORUM),
    ),
    _commit(
        "PUT",
        "/v1/restore/{digest}",
        "One piece of a backup's state; the last one makes the cluster what it says",
        backups.restore,
        path_type=RestorePath,
        body=WantedRestore,
        roles=OPERATORS,
        errors=(409, 413),
    ),
    _get_state("/v1/images", "The cluster's images", images.images, response=Images),
    _get(
        "/v1/images/{digest}",
        "An image's signed manifest",
        images.get_image,
        **_IMAGE,
        response=SignedManifest,
        errors=(404,),
    ),
    _commit(
        "PUT",
        "/v1/images/{digest}",
        "Keep an image on every member; it must be signed by a trusted key",
        images.put_image,
        **_IMAGE,
        body=SignedManifest,
        body_bytes_max=MANIFEST_BODY_BYTES_MAX,
        roles=OPERATORS,
        errors=(409, 413),
    ),
    _commit(
        "DELETE",
        "/v1/images/{digest}",
        "Keep it no more",
        images.delete_image,
        **_IMAGE,
        roles=OPERATORS,
        errors=(404, 409),
    ),
    _get(
        "/v1/images/{digest}/chunks",
        "Which chunks of an image are on this member",
        images.image_chunks,
        **_IMAGE,
        response=ChunksHere,
        query=ChunksQuery,
        errors=(404,),
    ),
    _write(
        "POST",
        "/v1/images/{digest}/warm",
        "Make what lets guests of an image start quickly on this member",
        images.warm_image,
        **_IMAGE,
        response=Warmed,
        roles=OPERATORS,
        errors=(404, 409),
    ),
    _get(
        "/v1/chunks/{digest}",
        "A chunk, compressed with zstd; 503 while too many are being sent",
        images.get_chunk,
        **_CHUNK,
        media=BYTES,
        errors=(404, 503),
    ),
    _write(
        "PUT",
        "/v1/chunks/{digest}",
        "Store a chunk that an image on this member needs; it must match its digest",
        images.put_chunk,
        **_CHUNK,
        response=NoInput,
        body=bytes,
        body_bytes_max=FRAME_BYTES_MAX,
        body_media=BYTES,
        roles=OPERATORS,
        errors=(413, 507),
    ),
    _get_state("/v1/image-keys", "Whose images may run", images.image_keys, response=ImageKeys),
    _commit(
        "PUT",
        "/v1/image-keys/{key}",
        "Run what this key signed",
        images.put_image_key,
        **_KEY,
        body=WantedImageKey,
        errors=(409,),
    ),
    _commit(
        "DELETE",
        "/v1/image-keys/{key}",
        "Run no more what this key alone signed; the last key stays",
        images.delete_image_key,
        **_KEY,
        errors=(404, 409),
    ),
    _get_state(
        "/v1/repair-key",
        "What healers log in to hosts with: the public part",
        reads.repair_access,
        response=RepairAccess,
    ),
    _commit(
        "PUT",
        "/v1/repair-key",
        "Let healers log in with certificates of this key",
        writes.put_repair_key,
        body=WantedRepairKey,
        roles=OPERATORS,
        errors=(409,),
    ),
    _commit(
        "PUT",
        "/v1/members/{id}/cordon",
        "Place nothing new on a member, and move its vote; drain: move off all that is there",
        writes.put_cordon,
        **_MEMBER,
        body=WantedCordon,
        errors=(404,),
    ),
    _commit(
        "DELETE",
        "/v1/members/{id}/cordon",
        "Use a member again",
        writes.delete_cordon,
        **_MEMBER,
        errors=(404,),
    ),
    _commit(
        "PUT",
        "/v1/members/{id}/revocation",
        "Refuse a member's certificate for good, and drain it",
        writes.revoke,
        **_MEMBER,
        errors=(404,),
    ),
    _commit(
        "DELETE",
        "/v1/members/{id}",
        "Forget a member that is dead or left, and has nothing left",
        writes.forget_member,
        **_MEMBER,
        errors=(404, 409),
    ),
    _get(
        "/v1/quorum",
        "Have the leader ask the quorum: for the leases of exclusive guests",
        reads.quorum,
        response=QuorumHeard,
        roles=AGENTS,
        errors=NO_QUORUM,
    ),
    _get("/v1/raft", "This member's own word of its log", raft.report, response=RaftReport),
    _commit(
        "PUT",
        "/v1/raft/voters/{id}",
        "Give a member a vote; the leader alone can",
        raft.put_voter,
        **_MEMBER,
        errors=(404,),
    ),
    _commit(
        "DELETE",
        "/v1/raft/voters/{id}",
        "Take a member's vote, not the leader's own; the leader alone can",
        raft.delete_voter,
        **_MEMBER,
        errors=(404,),
    ),
    _write(
        "PUT",
        "/v1/raft/leader",
        "Make another voter the leader; the leader alone can",
        raft.put_leader,
        response=NoInput,
        body=WantedLeader,
        roles=OPERATORS,
        errors=NO_QUORUM,
    ),
    _commit(
        "POST",
        "/v1/raft/recovery",
        "Go on as the only voter: the others are gone for good",
        raft.recover,
        body=WantedRecovery,
        roles=OPERATORS,
        errors=(409,),
    ),
    _get("/metrics", "Figures for Prometheus", reads.metrics, media=TEXT),
)
