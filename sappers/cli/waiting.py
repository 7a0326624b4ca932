"""Waiting for the cluster, with one live line that says how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console

from sappers.cli.status_view import plain
from sappers.errors import ApiError, SappersError

POLL_SECONDS = 0.3


class StillWaiting(SappersError):
    """The deadline came first; the cluster goes on trying."""


def wait_until(
    look: Callable[[], tuple[bool, str]],
    *,
    what: str,
    timeout_seconds: float,
    hint: str,
    console: Console,
) -> None:
    """Look until it is true; on a terminal one line changes in place, else each change is a line.

    Args:
        look: Whether it is done, and how far it is. What it raises of ApiError is waited out.
        what: Begins the line.

    Raises:
        StillWaiting: Not within the time; says how far it was.
    """
    deadline = time.monotonic() + timeout_seconds
    said = ""
    with console.status(plain(what)) as line:
        while True:
            try:
                done, progress = look()
            except ApiError as error:
                done, progress = False, error.message
            if done:
                return
            if progress != said:
                said = progress
                line.update(plain(f"{what}: {progress}"))
                if not console.is_terminal:
                    console.print(plain(f"{what}: {progress}"), soft_wrap=True)
            if time.monotonic() >= deadline:
                raise StillWaiting(f"{what}: not within {timeout_seconds:g} s: {said}", hint=hint)
            time.sleep(POLL_SECONDS)
