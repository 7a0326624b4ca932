"""Chunks on their way between this machine and members, over several connections to each.

Invariant: a chunk is in one thread's hands at a time, and one that a member did not confirm goes
back to those that wait. Threads are daemons: an interrupted command ends at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from sappers.api.https_calls import Peer
from sappers.errors import ApiError

CONNECTIONS_PER_MEMBER = 4
CONNECTIONS_MAX = 16
BUSY = 503
# A member that breaks off this often in a row is given up.
ATTEMPTS = 4
PAUSE_SECONDS = 0.25
BUSY_PAUSE_MAX_SECONDS = 2.0

Move = Callable[[Peer, str], None]
"""Moves one chunk to or from a member.

Raises:
    ApiError: The member did not take or give it; others may.
    SappersError: No member can help; everything ends.
"""


def move_chunks(
    chunks: Iterable[str],
    members: Sequence[Peer],
    move: Move,
    *,
    holders: Mapping[Peer, Collection[str]] | None = None,
) -> Mapping[Peer, ApiError]:
    """Move each chunk once, with whichever member is free next.

    Args:
        chunks: In the order in which they are taken.
        members: With whom.
        move: Called in many threads.
        holders: With whom each chunk can be moved; None: with everyone.

    Returns:
        Members that were given up, and why. Chunks that only they could move stay unmoved.

    Raises:
        SappersError: What `move` raised beside ApiError.
    """
    work = _Work(chunks, holders)
    connections = min(CONNECTIONS_PER_MEMBER, max(1, CONNECTIONS_MAX // max(1, len(members))))
    threads = [
        threading.Thread(target=_work_with, args=(member, work, move), daemon=True)
        for member in members
        for _ in range(connections)
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:
        work.stop(None)
        raise
    if work.error is not None:
        raise work.error
    return work.given_up


def _work_with(member: Peer, work: _Work, move: Move) -> None:
    busy_seconds = PAUSE_SECONDS
    while (chunk := work.take(member)) is not None:
        try:
            move(member, chunk)
        except ApiError as error:
            if error.status == BUSY:
                work.put_back(chunk)
                work.pause(busy_seconds)
                busy_seconds = min(2 * busy_seconds, BUSY_PAUSE_MAX_SECONDS)
            else:
                work.failed(member, chunk, error)
        except BaseException as error:
            work.stop(error)
            return
        else:
            busy_seconds = PAUSE_SECONDS
            work.done(member, chunk)


class _Work:
    """What is left to do, for all threads together."""

    def __init__(
        self, chunks: Iterable[str], holders: Mapping[Peer, Collection[str]] | None
    ) -> None:
        self._waiting = dict.fromkeys(chunks)
        self._holders = holders
        self._moving: set[str] = set()
        self._failures: dict[Peer, int] = {}
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self.given_up: dict[Peer, ApiError] = {}
        self.error: BaseException | None = None

    def take(self, member: Peer) -> str | None:
        """A chunk for this member; waits while others may put one back; None: go home."""
        with self._changed:
            while not self._stopped.is_set() and member not in self.given_up:
                for chunk in self._waiting:
                    if self._holders is None or chunk in self._holders[member]:
                        del self._waiting[chunk]
                        self._moving.add(chunk)
                        return chunk
                if not self._moving:
                    return None
                self._changed.wait()
        return None

    def done(self, member: Peer, chunk: str) -> None:
        """A chunk is confirmed."""
        with self._changed:
            self._moving.discard(chunk)
            self._failures.pop(member, None)
            if not self._moving:
                self._changed.notify_all()

    def put_back(self, chunk: str) -> None:
        """Nothing happened to it."""
        with self._changed:
            self._moving.discard(chunk)
            self._waiting[chunk] = None
            self._changed.notify_all()

    def failed(self, member: Peer, chunk: str, error: ApiError) -> None:
        """A chunk was not confirmed; a member that refuses, or is gone, is given up."""
        self.put_back(chunk)
        with self._changed:
            self._failures[member] = self._failures.get(member, 0) + 1
            if error.status or self._failures[member] >= ATTEMPTS:
                self.given_up.setdefault(member, error)
                self._changed.notify_all()
                return
        self.pause(PAUSE_SECONDS)

    def pause(self, seconds: float) -> None:
        """Wait, unless all ends."""
        self._stopped.wait(seconds)

    def stop(self, error: BaseException | None) -> None:
        """Let all threads go home after the chunk in their hands."""
        with self._changed:
            self.error = self.error or error
            self._stopped.set()
            self._changed.notify_all()
