"""Calls to a cluster from the control machine: to whichever member answers first."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Literal, Self, TypeVar
from urllib.parse import quote

import msgspec

from sappers.api.https_calls import NO_ANSWER, Answer, HttpsCalls, reason_of
from sappers.api.problems import decoded, error_in
from sappers.api.progress import Progress
from sappers.api.ways import Endpoint, OpenForward, Reached, Ways, at_once
from sappers.api.wire import (
    Allocations,
    Events,
    EventsFrom,
    Members,
    SnapshotTaken,
    WantedCordon,
    WantedLogLevel,
    WantedRestore,
    WantedWorkload,
    Workloads,
    Written,
)
from sappers.errors import ApiError
from sappers.model.backup import TakenState
from sappers.model.commands import RestorePiece
from sappers.model.event import Event, EventCheck, EventFilter, Story
from sappers.model.member import MemberState
from sappers.model.view import ClusterView, MemberHealth
from sappers.ports import LogLevel
from sappers.security.tls import Identity

CALL_SECONDS = 10.0
# A voter waits for its raft process, which writes the whole state.
SNAPSHOT_SECONDS = 90.0
# A member reads all of its files.
EVENTS_SECONDS = 60.0
LATE = 504

T = TypeVar("T")

Consistency = Literal["local", "linearizable"]
"""How new a reading is: as far as the member in use knows, or as new as the call."""


class OperatorClient:
    """A cluster's API; every call goes to a living member, another one if that one goes away.

    Whoever answers has applied what was written with this client, through whichever member.
    """

    def __init__(
        self,
        identity: Identity,
        endpoints: Sequence[Endpoint],
        *,
        open_forward: OpenForward | None = None,
        alone: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """A client.

        Args:
            identity: The operator's.
            endpoints: Where members may answer.
            open_forward: Another way to them.
            alone: These endpoints are asked and no other member, even if they name some.
            progress: Shared with other clients: each reads what any of them wrote.
        """
        self._endpoints = tuple(endpoints)
        self._alone = alone
        self._progress = progress or Progress()
        self.identity = identity
        self._https = HttpsCalls(identity)
        self._ways = Ways(self._https, open_forward)
        self._chosen: Reached | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close connections and forwards."""
        self._https.close()
        self._ways.close()

    def view(self) -> ClusterView:
        """The cluster at a glance. Raises as `call`."""
        return self._get("/v1/status", ClusterView)

    def health(self) -> MemberHealth:
        """What the member in use says of itself. Raises as `call`."""
        return self._get("/v1/health", MemberHealth)

    def state_json(self) -> bytes:
        """The replicated state as JSON. Raises as `call`."""
        return self.call("GET", "/v1/state")

    def events(
        self,
        *,
        after: int | None = None,
        limit: int = 100,
        wanted: EventFilter = EventFilter(),  # noqa: B008
    ) -> Events:
        """Events after a log index; else those that match, see the filter. Raises as `call`."""
        query = [f"limit={limit}"]
        if after is not None:
            query.append(f"after={after}")
        for name, value in msgspec.structs.asdict(wanted).items():
            if value:
                query.append(f"{name}={quote(str(value), safe='')}")
        path = f"/v1/events?{'&'.join(query)}"
        return decoded(self.call("GET", path, timeout_seconds=EVENTS_SECONDS), Events)

    def explain(self, name: str) -> Story:
        """What led to how something is. Raises as `call`; ApiError 404 for an unknown name."""
        path = f"/v1/explain/{quote(name, safe='')}"
        return decoded(self.call("GET", path, timeout_seconds=EVENTS_SECONDS), Story)

    def take_backup(self) -> TakenState:
        """The management state as it is now. Raises as `call`."""
        answer = self.call("POST", "/v1/backup", timeout_seconds=SNAPSHOT_SECONDS)
        return decoded(answer, TakenState, msgspec.msgpack.decode)

    def take_backup_at(self, reached: Reached) -> TakenState:
        """The state as this very member has it, without a quorum. Raises as `call_at`."""
        path = "/v1/backup?consistency=local"
        answer = self.call_at(reached, "POST", path, timeout_seconds=SNAPSHOT_SECONDS)
        return decoded(answer, TakenState, msgspec.msgpack.decode)

    def give_piece(self, piece: RestorePiece) -> Written:
        """One piece of a backup. Raises as `call`; ApiError 409 where the cluster is in use."""
        content = msgspec.json.encode(
            WantedRestore(piece.number, piece.count, piece.content, piece.replace)
        )
        return self._write("PUT", f"/v1/restore/{piece.digest}", content)

    def check_events_at(self, reached: Reached) -> EventCheck:
        """A member's word on its record of events. Raises as `call_at`."""
        answer = self.call_at(reached, "GET", "/v1/events/check", timeout_seconds=EVENTS_SECONDS)
        return decoded(answer, EventCheck)

    def events_at(self, reached: Reached, wanted: EventFilter, limit: int) -> Events:
        """Events of one member's record from `wanted.first` on. Raises as `call_at`."""
        path = f"/v1/events?first={wanted.first}&limit={limit}"
        answer = self.call_at(reached, "GET", path, timeout_seconds=EVENTS_SECONDS)
        return decoded(answer, Events)

    def give_events_at(self, reached: Reached, events: Sequence[Event]) -> int:
        """Events from before a record; from which number on it has all. Raises as `call_at`."""
        content = msgspec.json.encode({"events": events})
        answer = self.call_at(
            reached, "PUT", "/v1/events", content=content, timeout_seconds=EVENTS_SECONDS
        )
        return decoded(answer, EventsFrom).first

    def workloads(self, *, consistency: Consistency = "local") -> Workloads:
        """What should run. Raises as `call`."""
        return self._get(f"/v1/workloads?consistency={consistency}", Workloads)

    def allocations(self) -> Allocations:
        """What runs where. Raises as `call`."""
        return self._get("/v1/allocations", Allocations)

    def put_workload(self, name: str, wanted: WantedWorkload) -> Written:
        """Run this. Raises as `call`."""
        return self._write("PUT", f"/v1/workloads/{name}", msgspec.json.encode(wanted))

    def delete_workload(self, name: str) -> Written:
        """Run it no more. Raises as `call`."""
        return self._write("DELETE", f"/v1/workloads/{name}", None)

    def cordon(self, member_id: str, *, drain: bool) -> Written:
        """Place nothing new on a member; with `drain`, move off what is there. Raises as `call`."""
        content = msgspec.json.encode(WantedCordon(drain))
        return self._write("PUT", f"/v1/members/{member_id}/cordon", content)

    def uncordon(self, member_id: str) -> Written:
        """Use a member again. Raises as `call`."""
        return self._write("DELETE", f"/v1/members/{member_id}/cordon", None)

    def forget_member(self, member_id: str) -> Written:
        """Know a member no more that is gone for good. Raises as `call`."""
        return self._write("DELETE", f"/v1/members/{member_id}", None)

    def take_snapshot(self) -> SnapshotTaken:
        """Have the member in use write its state to disk. Raises as `call`."""
        answer = self.call("POST", "/v1/snapshot", timeout_seconds=SNAPSHOT_SECONDS)
        return decoded(answer, SnapshotTaken)

    def set_log_level(self, level: LogLevel) -> None:
        """Change what the member in use logs. Raises as `call`."""
        self.call("PUT", "/v1/log-level", content=msgspec.json.encode(WantedLogLevel(level)))

    def guest_log(self, allocation_id: str, tail_bytes: int) -> str:
        """The end of what a guest printed. Raises as `call`."""
        path = f"/v1/allocations/{allocation_id}/log?tail_bytes={tail_bytes}"
        return self.call("GET", path).decode(errors="replace")

    def call(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        timeout_seconds: float = CALL_SECONDS,
    ) -> bytes:
        """One call to a living member; made again, under the same key, if that member goes away.

        Raises:
            MemberUnreachable: No member answers; says what each of them did.
            NoQuorum: The cluster cannot commit.
            ApiError: The member answered an error.
        """
        key = uuid.uuid4().hex
        for last in (False, True):
            living = self._living()
            try:
                answer = self._send(living, method, path, content, key, timeout_seconds)
            except NO_ANSWER as error:
                self._chosen = None
                if last:
                    raise _broke_off(living, error) from error
                continue
            if answer.status == LATE and method == "GET" and not last:
                # It is behind, perhaps for good: cut off, damaged or revoked.
                self._chosen = self._another_than(living)
                if self._chosen is not None:
                    continue
            return _content(answer, living)
        raise AssertionError("unreachable")

    def everyone(self, *, silent: bool = False) -> tuple[Reached, ...]:
        """All living members that can be reached from here, each by the first way that answers.

        A client that asks one member and no other reaches that one.

        Args:
            silent: Those, too, that gossip does not hear, and those that this machine knows: cut
                off from each other, they may be reached from here.

        Raises:
            MemberUnreachable, ApiError: As `call`; not for members beside the first.
        """
        living = self._living()
        if self._alone:
            return (living,)
        members = decoded(self.call("GET", "/v1/members"), Members).members
        endpoints = [
            Endpoint(member.name, member.address, member.ports.http, member.id)
            for member in members
            if silent or member.state is MemberState.ALIVE
        ]
        if silent:
            named = {one.name for one in endpoints}
            endpoints += [one for one in self._endpoints if one.name not in named]
        known = {(living.endpoint.address, living.endpoint.port): living}

        def reach(one: Endpoint) -> Reached | None:
            return known.get((one.address, one.port)) or self._ways.any_of((one,))

        return tuple(found for found in at_once(reach, endpoints) if found)

    def call_at(
        self,
        reached: Reached,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        timeout_seconds: float = CALL_SECONDS,
    ) -> bytes:
        """One call to this very member.

        Raises:
            NoQuorum: The cluster cannot commit.
            ApiError: The member answered an error (its status), or did not answer (status 0).
        """
        key = uuid.uuid4().hex
        try:
            answer = self._send(reached, method, path, content, key, timeout_seconds)
        except NO_ANSWER as error:
            raise _broke_off(reached, error) from error
        return _content(answer, reached)

    def _send(
        self,
        reached: Reached,
        method: str,
        path: str,
        content: bytes | None,
        key: str,
        timeout_seconds: float,
    ) -> Answer:
        headers = self._progress.headers() if method == "GET" else {"idempotency-key": key}
        answer = self._https.call(
            reached.peer, method, path, content, stall_seconds=timeout_seconds, headers=headers
        )
        self._progress.wrote(answer.headers)
        return answer

    def _get(self, path: str, kind: type[T]) -> T:
        return decoded(self.call("GET", path), kind)

    def _write(self, method: str, path: str, content: bytes | None) -> Written:
        return decoded(self.call(method, path, content=content), Written)

    def _living(self) -> Reached:
        """The member in use, or the first that answers now, directly or through a forward."""
        if self._chosen is None:
            self._chosen = self._ways.first_of(self._endpoints)
        return self._chosen

    def _another_than(self, living: Reached) -> Reached | None:
        return self._ways.any_of([one for one in self._endpoints if one != living.endpoint])


def _broke_off(reached: Reached, error: Exception) -> ApiError:
    return ApiError(f"{reached.endpoint} broke off: {reason_of(error)}")


def _content(answer: Answer, reached: Reached) -> bytes:
    if not answer.is_success:
        raise error_in(answer.status, answer.content, reached.name)
    return answer.content
