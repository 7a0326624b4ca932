"""Whether an agent runs on a STATE_DIR, and where it answers.

Invariant: an agent holds the lock of its STATE_DIR for as long as it lives, so two never write to
one, and what the file says is believed only while the lock is held. No pid is ever trusted.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from sappers.errors import ConfigError, StateInUse
from sappers.model.known_types import UNREADABLE

# One that only asks holds the lock for a moment.
_PATIENCE_SECONDS = 1.0
_AGAIN_SECONDS = 0.05


class RunningAgent(msgspec.Struct, frozen=True):
    """An agent that runs, as a command on the same machine needs to know it.

    Attributes:
        pid: For people; nothing is done by it.
        address: Where its HTTP API answers.
    """

    node_id: str
    pid: int
    address: str
    http_port: int


def refuse_others(folder: Path) -> None:
    """Nothing, for a STATE_DIR that only its user can write to.

    Raises:
        ConfigError: Another user could put there what the agent opens, or be who it is.
        OSError: It cannot be looked at.
    """
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(
            f"{folder} is no folder, or a link to one", hint="name the folder itself as STATE_DIR"
        )
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"{folder}: another user owns it",
            hint="run it as the user whose STATE_DIR this is, or use another STATE_DIR",
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"{folder}: other users can write to it",
            hint=f"chmod go-w {folder}, if nothing in it is from somebody else",
        )


@contextmanager
def claimed(path: Path) -> Iterator[int]:
    """Hold a STATE_DIR's lock for the block; yields its descriptor for `announce`.

    Raises:
        StateInUse: Another agent holds it.
        ConfigError: It is a link.
        OSError: The file cannot be made.
    """
    descriptor = _open(path, os.O_CREAT)
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _try(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                raise _in_use(path, _read(descriptor))
            time.sleep(_AGAIN_SECONDS)
        os.ftruncate(descriptor, 0)
        yield descriptor
    finally:
        os.close(descriptor)


def announce(descriptor: int, agent: RunningAgent) -> None:
    """Say where the agent answers that has claimed the STATE_DIR."""
    content = msgspec.json.encode(agent)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, content, 0)


def find_running(path: Path) -> RunningAgent | None:
    """The agent that runs on a STATE_DIR now, or None.

    Raises:
        StateInUse: One runs, but does not say yet where it answers.
        ConfigError: The file is a link.
        OSError: The file cannot be read.
    """
    try:
        descriptor = _open(path)
    except FileNotFoundError:
        return None
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _try(descriptor, fcntl.LOCK_SH):
            if (agent := _read(descriptor)) is not None:
                return agent
            if time.monotonic() >= deadline:
                raise StateInUse(
                    f"the agent on {path.parent} is just starting", hint="try again in a moment"
                )
            time.sleep(_AGAIN_SECONDS)
        return None
    finally:
        os.close(descriptor)


def _open(path: Path, flags: int = 0) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ConfigError(
            f"{path} is a link, which no agent made", hint="look who made it, and remove it"
        ) from error


def _try(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(descriptor: int) -> RunningAgent | None:
    try:
        return msgspec.json.decode(os.pread(descriptor, 4096, 0), type=RunningAgent)
    except UNREADABLE:
        return None


def _in_use(path: Path, agent: RunningAgent | None) -> StateInUse:
    whose = f"{agent.node_id}, process {agent.pid}, runs" if agent else "another agent runs"
    return StateInUse(
        f"{path.parent}: {whose} on it already",
        hint="one agent a STATE_DIR; end that one first, or use another STATE_DIR",
    )
