"""The replicated log of a member without a vote: fed with committed entries, fills gaps itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NoReturn

import structlog

from sappers.consensus.disk import LOCAL_DISK, Disk
from sappers.consensus.news import News
from sappers.consensus.replica import Replica
from sappers.consensus.sealed import seal, unseal
from sappers.consensus.snapshot import load_state
from sappers.errors import LogDamaged, ProposalRejected, SappersError, UpgradeNeeded
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import encode_state
from sappers.model.commands import Entry
from sappers.model.event import Event
from sappers.model.known_types import UNREADABLE
from sappers.model.observation import RaftRole, RaftStatus

FetchSnapshot = Callable[[], Awaitable[bytes]]
FetchEntries = Callable[[int, int], Awaitable[list[Entry] | None]]

_KIND = "replica"
_SAVE_SECONDS = 30.0
_RETRY_SECONDS = 0.5
_VAIN_ATTEMPTS = 4  # a new leader's first entry is not committed yet, or what is here was given up

_log = structlog.get_logger()


def _needs_a_vote(hint: str) -> Callable[..., Coroutine[Any, Any, NoReturn]]:
    async def refuse(*_: object, **__: object) -> NoReturn:
        raise ProposalRejected("this member has no vote", hint=hint)

    return refuse


class FollowerLog:
    """A non-voter's `ports.FollowingLog`.

    Args:
        fetch_snapshot: A voter's newest snapshot; what follows it is fetched as entries.
        fetch_entries: Committed entries after that of an index and a term; None where they are
            compacted away, or the log has another entry there.
        folder: Where a copy of the replica is kept, to start from. It is only a copy: when it is
            damaged, a voter's snapshot takes its place.
    """

    def __init__(
        self,
        fetch_snapshot: FetchSnapshot,
        fetch_entries: FetchEntries,
        folder: Path,
        disk: Disk = LOCAL_DISK,
    ) -> None:
        self._disk = disk
        self._fetch_snapshot = fetch_snapshot
        self._fetch_entries = fetch_entries
        self._path = folder / "replica"
        self._replica = Replica()
        self._saved = (0, 0)  # index and term
        self._saving = threading.Lock()  # what is written has one name beside the copy's
        self._heard_index = 0
        self._term = 0
        self._leader_id: str | None = None
        self._revoked = 0  # how many were, at the last look
        # Since when what has the entry of this index and term is up to date.
        self._sure: tuple[float, int, int] | None = None
        self._leaders_index = 0  # as the newest leader said it
        self._state_as_of: float | None = None
        self._news = News()
        self._is_behind = asyncio.Event()
        self._vain_attempts = 0
        self._tasks: list[asyncio.Task[None]] = []

    # ports.FollowingLog

    async def start(self) -> None:
        """Load the kept copy, if it is whole, and begin to catch up in the background."""
        self._disk.make_folder(self._path.parent)
        self._load()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._catch_up()), loop.create_task(self._keep_copy())]

    async def stop(self) -> None:
        """Stop catching up; the copy on disk is as new as the replica, if the disk takes it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._try_to_save()

    async def begin_at(self, state: ClusterState) -> None:
        """Begin with a state that this member has; of no effect where it is not newer."""
        self._replica.replace(state)
        self._note(state.index, state.term)
        self._changed()

    async def feed(self, entry: Entry) -> None:
        """A committed entry as the hub brought it; repeated and out of order is fine.

        The first one of a term is fetched, with the one before: two entries of one term are of one
        leader's log, and so is all before them; of others that must be seen.
        """
        before = self._replica.state
        if entry.term == before.term:
            self._replica.advance([entry])
        self._note(entry.index, entry.term)
        if self._lags():
            self._is_behind.set()
        if self._replica.state is not before:
            self._changed()

    async def heard(
        self, index: int, term: int, leader_id: str | None, as_of: float | None = None
    ) -> None:
        """How far the cluster is; what is missing is fetched in the background.

        Who is revoked is not believed.
        """
        if leader_id in self._replica.state.revoked:
            return
        if as_of is not None:
            self._note_age()  # what was sure before may have been fetched meanwhile
            self._sure = (as_of, index, term)
        self._note(index, term)
        if term >= self._term:
            if leader_id is not None:
                self._leaders_index = index
            if leader_id != self._leader_id:
                self._leader_id = leader_id
                self._news.tell()
        if self._lags():
            self._is_behind.set()

    def state(self) -> ClusterState:
        """This member's replica."""
        return self._replica.state

    def status(self) -> RaftStatus:
        """As last heard; the role is none."""
        state = self._replica.state
        return RaftStatus(
            RaftRole.NONE,
            self._term,
            self._leader_id,
            max(self._heard_index, state.index),
            state.index,
            state.electorate,
            halted=self._replica.halted,
        )

    # What only a voter can do raises ProposalRejected, and says whom to ask.
    propose = _needs_a_vote("propose it at the leader")
    read_barrier = _needs_a_vote("read it at the leader")
    add_voter = remove_voter = transfer_leadership = _needs_a_vote("ask the leader")
    recover_alone = _needs_a_vote("ask a voter")

    def state_age(self) -> float | None:
        """See the port."""
        self._note_age()
        now = asyncio.get_running_loop().time()
        return None if self._state_as_of is None else now - self._state_as_of

    def entries_after(self, index: int, limit: int) -> Sequence[Entry] | None:
        """See the port."""
        return self._replica.entries_after(index, limit)

    def events_after(self, number: int) -> tuple[Event, ...]:
        """See the port."""
        return self._replica.events_after(number)

    async def snapshot(self) -> bytes:
        """See the port."""
        return encode_state(self._replica.state)

    async def written_snapshot(self) -> bytes:
        """The state now: this member's file is but a copy."""
        return await self.snapshot()

    async def trigger_snapshot(self) -> int:
        """Write the copy now; the index it stands at.

        Raises:
            ProposalRejected: The disk does not take it.
        """
        try:
            await asyncio.to_thread(self._save)
        except OSError as error:
            raise ProposalRejected(f"{self._path} cannot be written: {error}") from error
        return self._saved[0]

    def changes(self) -> AsyncIterator[None]:
        """See the port."""
        return self._news.listen()

    # Catching up

    def _note(self, index: int, term: int) -> None:
        self._heard_index = max(self._heard_index, index)
        self._term = max(self._term, term)

    def _note_age(self) -> None:
        if self._sure is not None and self._replica.state.is_as_new_as(*self._sure[1:]):
            as_of, self._sure = self._sure[0], None
            self._state_as_of = max(self._state_as_of or as_of, as_of)

    def _changed(self) -> None:
        state = self._replica.state
        if len(state.revoked) > self._revoked:
            # Whoever it is may have told of any leader, term and index. The next word comes soon.
            _log.warning("forgot what was heard: a member is revoked", leader=self._leader_id)
            self._leader_id = self._sure = self._state_as_of = None
            self._term, self._heard_index = state.term, state.index
        self._revoked = len(state.revoked)
        self._news.tell()

    def _lags(self) -> bool:
        state = self._replica.state
        return not state.is_as_new_as(self._heard_index, self._term)

    async def _catch_up(self) -> None:
        while True:
            await self._is_behind.wait()
            self._is_behind.clear()
            while self._lags() and not self._replica.halted:
                before = self._replica.state
                try:
                    await self._fetch_missing()
                except UpgradeNeeded as error:
                    self._replica.halt(error)
                except (SappersError, OSError, *UNREADABLE) as error:
                    _log.warning("cannot catch up yet", index=before.index, reason=str(error))
                if self._replica.state is before:
                    await asyncio.sleep(_RETRY_SECONDS)
                else:
                    self._vain_attempts = 0
                    self._changed()

    async def _fetch_missing(self) -> None:
        index, ours = self._replica.state.index, self._replica.state.cluster_id
        if index > 1:  # a new member starts from a snapshot, however short the log is
            entries = await self._fetch_entries(index, self._replica.state.term)
            if entries and self._replica.advance(entries):
                return
            if entries == [] and not self._may_have_what_was_given_up():
                return
        fetched = load_state(await self._fetch_snapshot())
        if ours and fetched.cluster_id != ours:
            raise LogDamaged(
                f"a voter sent the state of cluster {fetched.cluster_id}, this member is of {ours}",
                hint=f"if it was moved on purpose, delete {self._path}",
            )
        if self._replica.replace(fetched):
            if fetched.index < index:
                self._heard_index = fetched.index  # what was heard before was given up, too
                self._sure = self._state_as_of = None
            _log.info("started from a snapshot", snapshot=fetched.index, after=index)

    def _may_have_what_was_given_up(self) -> bool:
        """Whether a voter's state is looked at though no voter has more entries: ever more seldom.

        A leader of a later term that has fewer entries than this member was recovered without them.
        """
        state = self._replica.state
        if state.term >= self._term or state.index < self._leaders_index:
            return False
        self._vain_attempts += 1
        count = self._vain_attempts
        return count >= _VAIN_ATTEMPTS and count & (count - 1) == 0

    # The copy on disk

    def _load(self) -> None:
        try:
            content = unseal(_KIND, self._disk.read(self._path), self._path, "a voter's is fetched")
            self._replica.load(content)
        except FileNotFoundError:
            return
        except (LogDamaged, OSError, *UNREADABLE) as error:
            _log.warning("the kept copy is of no use, a voter's is fetched", reason=str(error))
        self._saved = (self._replica.state.index, self._replica.state.term)
        self._note(*self._saved)

    def _save(self) -> None:
        with self._saving:
            state = self._replica.state
            if (state.index, state.term) != self._saved:
                self._disk.replace(self._path, seal(_KIND, encode_state(state)))
                self._saved = (state.index, state.term)

    def _try_to_save(self) -> None:
        try:
            self._save()
        except OSError as error:
            _log.warning("the copy was not saved", file=str(self._path), reason=str(error))

    async def _keep_copy(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            await asyncio.to_thread(self._try_to_save)
