"""One process at a time works on a lab."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sappers.errors import LockHeld


@contextmanager
def folder_lock(folder: Path, what: str) -> Iterator[None]:
    """Hold `folder` alone, made (0700) if missing; the holder may remove it.

    Raises:
        LockHeld: Another process has it; names its process id.
    """
    path = folder / "lock"
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # removed by a holder between the two calls
        with os.fdopen(descriptor, "r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = f"process {file.read().strip() or '(unknown)'}"
                raise LockHeld(what, holder, hint="wait for it, or end it") from error
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                continue  # the folder was removed while we opened the file
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield
            return
