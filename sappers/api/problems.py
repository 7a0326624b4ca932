"""Errors as HTTP answers, and back."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import msgspec

from sappers.api.wire import Problem
from sappers.errors import (
    ApiError,
    CommandRefused,
    IdentityError,
    ImageError,
    ImageIncomplete,
    ImageUntrusted,
    LaunchError,
    NoQuorum,
    OutcomeUnknown,
    ProposalRejected,
    SappersError,
)
from sappers.model.known_types import UNREADABLE, learn

T = TypeVar("T")

# The first class that fits gives the status.
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (NoQuorum, 503),
    (ProposalRejected, 503),
    (OutcomeUnknown, 504),
    (TimeoutError, 504),
    (CommandRefused, 409),
    (IdentityError, 409),
    (ImageUntrusted, 403),
    (ImageIncomplete, 409),
    (ImageError, 400),
    (LaunchError, 404),
    # msgspec recurses into nested input; both mean that it is not what was asked for.
    (msgspec.DecodeError, 400),
    (RecursionError, 400),
    (UnicodeDecodeError, 400),
)


def problem_of(error: Exception) -> Problem:
    """What to answer when a call failed with this error; 500 for what nobody foresaw."""
    status = _status_of(error)
    cause = type(error).__name__
    if isinstance(error, SappersError):
        return Problem(error.message, error.hint, status, cause)
    if status == 500:
        hint = "see the member's log: journalctl -u sappers"
        return Problem("the member failed to answer", hint, status, cause)
    return Problem(str(error) or cause, None, status, cause)


def _status_of(error: Exception) -> int:
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    if isinstance(error, ApiError):
        return error.status if 400 <= error.status <= 599 else 502
    return 500


def error_in(status: int, body: bytes, where: str) -> ApiError:
    """The error that a member's answer (not a 2xx) stands for; `where` names the member."""
    try:
        problem = msgspec.json.decode(body, type=learn(Problem))
    except UNREADABLE:
        text = body[:200].decode(errors="replace").strip()
        return ApiError(f"{where} answered {status}: {text or 'nothing'}", status=status)
    kind = NoQuorum if problem.cause in ("NoQuorum", "ProposalRejected") else ApiError
    return kind(f"{where}: {problem.error}", status=status, hint=problem.hint)


def decoded(answer: bytes, kind: type[T], decode: Any = msgspec.json.decode) -> T:
    """A member's answer (a 2xx) as what it has to be.

    Raises:
        ApiError: It is not.
    """
    try:
        return cast("T", decode(answer, type=learn(kind)))
    except UNREADABLE as error:
        raise ApiError(
            f"the member's answer cannot be read: {error}",
            hint="are sappers-deploy and the agents of one version? bootstrap updates agents",
        ) from error
