"""The store's lock: any number write at once, in any process; whoever prunes is alone.

Whoever writes goes through a door first, which is the folder itself. Whoever prunes shuts it and
waits until all inside are done; else those who write one after another, without a pause, would let
nobody prune. The door opens again before long, because those inside may wait for others to come in.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from sappers.errors import ImageError
from sappers.images.files import make_folder, refusing

_SHUT_SECONDS = 1.0
_OPEN_SECONDS = 0.5
_LOOK_SECONDS = 0.01


class _Inside(threading.local):
    """What this thread holds: by store, the open lock file and how many blocks stand in it."""

    def __init__(self) -> None:
        self.held: dict[Path, tuple[int, int]] = {}


_inside = _Inside()


@contextlib.contextmanager
def holding(root: Path) -> Iterator[None]:
    """Nothing is pruned meanwhile. Such blocks may stand in one another, and end in any order."""
    held = _inside.held
    if root in held:
        descriptor, blocks = held[root]
    else:
        descriptor, blocks = _enter(root), 0
    held[root] = (descriptor, blocks + 1)
    try:
        yield
    finally:
        descriptor, blocks = held.pop(root)
        if blocks > 1:
            held[root] = (descriptor, blocks - 1)
        else:
            os.close(descriptor)


def _enter(root: Path) -> int:
    """The lock file, locked with all others who write."""
    with refusing(root):
        lock = _open_lock(root)
        try:
            with _door(root) as door:
                fcntl.flock(door, fcntl.LOCK_SH)
                fcntl.flock(lock, fcntl.LOCK_SH)
        except BaseException:
            os.close(lock)
            raise
        return lock


@contextlib.contextmanager
def alone(root: Path, patience_seconds: float) -> Iterator[None]:
    """Nobody holds meanwhile.

    Raises:
        ImageError: Somebody holds for longer than the patience lasts.
    """
    deadline = time.monotonic() + patience_seconds
    with refusing(root):
        lock = _open_lock(root)
    try:
        while not _taken(root, lock, deadline):
            if time.monotonic() > deadline:
                raise ImageError(
                    f"images are being built or fetched in {root}",
                    hint="repeat when that is done",
                )
            time.sleep(_OPEN_SECONDS)
        yield
    finally:
        os.close(lock)


def _taken(root: Path, lock: int, deadline: float) -> bool:
    """Whether the lock could be had while the door was shut."""
    with refusing(root), _door(root) as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        until = min(deadline, time.monotonic() + _SHUT_SECONDS)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > until:
                    return False
                time.sleep(_LOOK_SECONDS)


def _open_lock(root: Path) -> int:
    make_folder(root, root)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(root / "lock", flags, 0o600)


@contextlib.contextmanager
def _door(root: Path) -> Iterator[int]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
