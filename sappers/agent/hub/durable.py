"""Durable messages on behalf of guests, which may not ask JetStream themselves.

Any agent answers any guest. Whether it may is read from the committed state, for each call: whose
guest it is, whether that should still be, and which workloads it is linked to. Answers go to the
guest's own inbox and nowhere else; a guest that asks too often gets none.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import structlog
from msgspec import Meta

from sappers.agent.hub.guest_ear import GuestCalls
from sappers.errors import HubError, StreamFull
from sappers.model import subjects
from sappers.model.guest_scope import GuestScope
from sappers.model.known_types import UNREADABLE
from sappers.model.refusal import RefusalKind
from sappers.ports import Clock, DurableStreams, HubClient, Refusals

_QUEUE = "agents"
_FETCH_MAX = 8
_WAITING_MAX = 4  # fetches of one guest; further ones are answered without waiting

log = structlog.get_logger(__name__)


class _Store(msgspec.Struct, frozen=True):
    """The first line of a `store`; what follows is the message. No wildcards in the name."""

    name: Annotated[str, Meta(pattern=r"^[!-)+-=?-~]{1,200}\Z")]
    to: str
    id: Annotated[str, Meta(pattern=r"^[!-~]{1,128}\Z")]


class _Fetch(msgspec.Struct, frozen=True):
    count: Annotated[int, Meta(ge=1, le=_FETCH_MAX)] = 1
    wait_seconds: Annotated[float, Meta(ge=0, le=5)] = 3.0


class _Settle(msgspec.Struct, frozen=True):
    token: Annotated[str, Meta(max_length=400)]
    again: bool = False


class DurableCalls:
    """Serves `store`, `fetch` and `settle`.

    Args:
        streams: Where messages are kept.
        scope_of: What an allocation's guest may do; None where there should be none.
        refusals: Told of calls that are refused.
    """

    def __init__(
        self,
        streams: DurableStreams,
        scope_of: Callable[[str], GuestScope | None],
        refusals: Refusals,
        clock: Clock,
    ) -> None:
        self._streams = streams
        self._scope_of = scope_of
        self._refusals = refusals
        self._clock = clock
        self._waiting: Counter[str] = Counter()

    def served_by(self, hub: HubClient) -> GuestCalls:
        """What takes guests' calls, each guest's at a rate of its own."""
        return GuestCalls(
            clock=self._clock,
            hub=hub,
            refusals=self._refusals,
            queue=_QUEUE,
            answer=self.answer,
            busy=_refusal("too many calls", later=True),
        )

    async def answer(self, subject: str, payload: bytes, reply: str) -> bytes | None:
        """The answer to one call, as JSON; None where an answer has nowhere to go."""
        allocation_id, call = subjects.allocation_of(subject), subject.rpartition(".")[2]
        if not subjects.matches(f"{subjects.inbox(allocation_id)}.>", reply):
            self._refusals.count(RefusalKind.SUBJECT, allocation_id)
            return None
        try:
            scope = self._scope_of(allocation_id)
            if scope is None:  # or this member has not heard of it yet
                return _refusal(f"there should be no guest {allocation_id}", later=True)
            return msgspec.json.encode(await self._act(scope, call, payload))
        except UNREADABLE as error:
            self._refusals.count(RefusalKind.UNREADABLE, allocation_id)
            return _refusal(f"that makes no sense: {error}")
        except PermissionError as error:
            self._refusals.count(RefusalKind.SUBJECT, allocation_id)
            return _refusal(str(error))
        except StreamFull:
            return _refusal("the stream is full: messages are not settled as fast as they come")
        except HubError as error:
            return _refusal(error.message, later=True)

    async def _act(self, scope: GuestScope, call: str, payload: bytes) -> dict[str, Any]:
        match call:
            case "store":
                return await self._store(scope, payload)
            case "fetch":
                return await self._fetch(scope, payload)
            case "settle":
                done = msgspec.json.decode(payload, type=_Settle)
                await self._streams.settle(scope.workload, done.token, again=done.again)
                return {}
            case _:
                raise PermissionError(f"there is no call {call}")

    async def _fetch(self, scope: GuestScope, payload: bytes) -> dict[str, Any]:
        ask, guest = msgspec.json.decode(payload, type=_Fetch), scope.allocation_id
        wait_seconds = ask.wait_seconds if self._waiting[guest] < _WAITING_MAX else 0.0
        self._waiting[guest] += 1
        try:
            found = await self._streams.fetch(scope.workload, ask.count, wait_seconds)
        finally:
            self._waiting[guest] -= 1
            if not self._waiting[guest]:
                del self._waiting[guest]
        messages = [
            {
                "subject": each.subject,
                "payload": base64.b64encode(each.payload).decode(),
                "token": each.token,
                "deliveries": each.deliveries,
            }
            for each in found
        ]
        return {"messages": messages}

    async def _store(self, scope: GuestScope, payload: bytes) -> dict[str, Any]:
        head, _, message = payload.partition(b"\n")
        wanted = msgspec.json.decode(head, type=_Store)
        if not all(wanted.name.split(".")):
            raise PermissionError(f"{wanted.name!r} is no subject")
        if wanted.to != scope.workload and wanted.to not in scope.links:
            raise PermissionError(f"{scope.workload} is not linked to {wanted.to}")
        # A workload's ids are its own: nobody else can have its messages taken for repetitions.
        message_id = f"{scope.workload}/{wanted.id}"
        kept = await self._streams.store(wanted.to, wanted.name, message, message_id)
        return {"sequence": kept.sequence, "duplicate": kept.duplicate}


def _refusal(reason: str, *, later: bool = False) -> bytes:
    return msgspec.json.encode({"error": reason[:300], "later": later})
