"""What a call of a member's HTTP API is: who may make it, what goes in, and what comes out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from sappers.api.call import Call
from sappers.api.wire import NoInput, Written

Answer = Callable[[Call], Awaitable[Any]]
Role = Literal["agent", "operator"]
EVERYONE: frozenset[Role] = frozenset({"agent", "operator"})
AGENTS: frozenset[Role] = frozenset({"agent"})
OPERATORS: frozenset[Role] = frozenset({"operator"})

BODY_BYTES_MAX = 1024 * 1024

JSON = "application/json"
MSGPACK = "application/msgpack"
BYTES = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One call.

    Attributes:
        path: With `{names}`, which are the fields of `path_type`.
        answer: Does it; what it returns is encoded as `media`, a Response goes out as it is.
        response: Type of the answer, or None for bytes and text.
        media: Media type of the answer.
        body: Type of the request's body, or None for none; `bytes` as it comes.
        body_bytes_max: A longer one is refused.
        body_media: Media type of the request's body.
        errors: Statuses it may answer beside those that any call may.
        of_state: It answers from the replicated state, so the caller may say how new that must be
            (`Sappers-Index`); else with this member's own word.
    """

    method: str
    path: str
    summary: str
    answer: Answer
    response: Any = None
    media: str = JSON
    path_type: type = NoInput
    query: type = NoInput
    body: Any = None
    body_bytes_max: int = BODY_BYTES_MAX
    body_media: str = JSON
    roles: frozenset[Role] = EVERYONE
    errors: tuple[int, ...] = ()
    of_state: bool = False


# Statuses: the cluster cannot commit; it is not known whether it did.
NO_QUORUM = (503, 504)


def get(path: str, summary: str, answer: Answer, **more: Any) -> Route:
    """A call that reads."""
    return Route(method="GET", path=path, summary=summary, answer=answer, **more)


def get_state(path: str, summary: str, answer: Answer, **more: Any) -> Route:
    """A call that reads the replicated state; see `Route.of_state`."""
    return get(path, summary, answer, of_state=True, **more)


def write(method: str, path: str, summary: str, answer: Answer, **more: Any) -> Route:
    """A call that does something."""
    return Route(method=method, path=path, summary=summary, answer=answer, **more)


def commit(
    method: str,
    path: str,
    summary: str,
    answer: Answer,
    *,
    response: Any = Written,
    errors: tuple[int, ...] = (),
    **more: Any,
) -> Route:
    """A call that does something and answers once the log has it, and so not without a quorum."""
    errors = (*errors, *NO_QUORUM)
    return write(method, path, summary, answer, response=response, errors=errors, **more)
