"""Waiting for something that another process makes true."""

from __future__ import annotations

import time
from collections.abc import Callable

from sappers.errors import LabError

_POLL_SECONDS = 0.02


def await_condition(
    condition: Callable[[], bool], timeout_seconds: float, what: str, *, hint: str | None = None
) -> None:
    """Return as soon as `condition()` holds.

    Raises:
        LabError: It does not within `timeout_seconds`; names `what` and shows `hint`.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise LabError(f"{what}: not so after {timeout_seconds:.0f} s", hint=hint)
        time.sleep(_POLL_SECONDS)
