"""One run at a time on a cluster: a lock on this machine, beside the lock on each host."""

from __future__ import annotations

import fcntl
import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sappers.errors import LockHeld

LOCK_HINT = "wait until that run has ended; the lock ends with it"


def describe_holder(now: float) -> str:
    """Who this run is, for whoever finds its lock."""
    since = datetime.fromtimestamp(now, UTC)
    return (
        f"{getpass.getuser()}@{socket.gethostname()}, pid {os.getpid()}, "
        f"since {since:%Y-%m-%d %H:%M:%S} UTC"
    )


@contextmanager
def run_lock(folder: Path, cluster: str, holder: str) -> Iterator[None]:
    """Hold the cluster's lock on this machine; it ends with the process, however that ends.

    Raises:
        LockHeld: Another run on this machine has it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "run.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockHeld(
                f"cluster {cluster}", path.read_text().strip() or "another run", hint=LOCK_HINT
            ) from error
        file.truncate(0)
        file.write(holder)
        file.flush()
        yield
        file.truncate(0)
