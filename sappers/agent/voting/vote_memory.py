"""What a member has of its vote on its disk: whether it may vote, and with what.

Invariants:
- A vote is used with all that this member has ever used it with, or when it is a new one. What is
  damaged, or missing in part, is not voted with.
- A member with nothing at all takes a vote for a new one only if it heard from the cluster before,
  and noted on this disk, that it had none: else the disk may have been replaced.
- Once what it voted with is deleted, it is known until when this member had a vote and in which
  terms: a vote that it was given before is not used again, and none is given twice.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import structlog

from sappers.agent.voting.genesis import (
    NoVote,
    check_nothing_is_left,
    check_raft_folder,
    forget_no_vote,
    leave_genesis,
    load_genesis,
    load_no_vote,
    note_raft_started,
    save_genesis,
    save_no_vote,
)
from sappers.config import StateFolder
from sappers.durable import FULL, LACKING
from sappers.errors import IdentityError
from sappers.model.cluster_state import ClusterState
from sappers.model.entry_place import EntryPlace
from sappers.model.view import Genesis

log = structlog.get_logger(__name__)


class _Loss(msgspec.Struct, frozen=True):
    """How this member lost its vote last.

    Attributes:
        at: The entry that made the newest electorate that it knew then what it was.
        term: It may have voted in all terms up to this one.
    """

    cluster_id: str = ""
    at: EntryPlace = EntryPlace(-1)
    term: int = 0

    def covers(self, state: ClusterState) -> bool:
        """Whether the vote that a state gives is no newer than the one that was lost."""
        return state.cluster_id == self.cluster_id and not state.electorate_at.is_after(self.at)


class VoteMemory:
    """Genesis, raft folder and what stands beside them in STATE_DIR."""

    def __init__(self, me_id: str, folder: StateFolder) -> None:
        self._me_id = me_id
        self._folder = folder
        self._loss = _Loss()
        self._no_vote: NoVote | None = None

    def load(self) -> Genesis | None:
        """What this member votes with, or None where it has no vote.

        Raises:
            LogDamaged: Something of it is missing or cannot be read.
        """
        if (former := load_genesis(self._folder.former_genesis)) is not None:
            self._loss = _Loss(former.cluster_id, former.given_at, former.term)
        genesis = load_genesis(self._folder.genesis)
        if genesis is None:
            check_nothing_is_left(self._folder)
            self._no_vote = load_no_vote(self._folder.no_vote)
        return genesis

    # Whether a vote may be used

    @property
    def is_used(self) -> bool:
        """Whether this member has begun to use a vote that it has not put away yet."""
        return self._folder.genesis.exists()

    @property
    def is_ready(self) -> bool:
        """Whether a vote that is given now would be known for a new one."""
        return self._no_vote is not None

    def is_ready_in(self, cluster_id: str) -> bool:
        """The same, given by this cluster."""
        return self._no_vote is not None and self._no_vote.cluster_id == cluster_id

    def may_use(self, state: ClusterState) -> bool:
        """Whether the vote that a state gives is new, or all is here that it was used with."""
        if self._loss.covers(state):
            return False
        is_new = self._no_vote is not None and self._no_vote.precedes(state)
        return is_new or self.is_used

    def lacks(self, state: ClusterState) -> bool:
        """Whether the state gives a vote, and nothing here tells of it nor that it is new."""
        return (
            self._me_id in state.electorate
            and not self._loss.covers(state)
            and not self.is_ready_in(state.cluster_id)
            and not self.is_used
        )

    # Beginning

    def accept(self, genesis: Genesis) -> bool:
        """Take the founder's word; whether it is news.

        Raises:
            IdentityError: This member has another genesis already, is not named in it, or lost its
                vote since.
            LogDamaged: It has voted before, and does not know all of that any more.
        """
        if self._folder.former_genesis.exists():
            raise IdentityError(f"{self._me_id} has lost the vote that it was founded with")
        if self.is_ready_in(genesis.cluster_id):
            raise IdentityError(f"{self._me_id} has no vote in {genesis.cluster_id} any more")
        already = load_genesis(self._folder.genesis)
        if already is None:
            check_nothing_is_left(self._folder)
        save_genesis(self._folder.genesis, genesis, self._me_id)
        return already is None

    def join_with(self, record: Genesis) -> Genesis:
        """What a vote that the state gave is used with: this record, where none is here yet.

        Raises:
            LogDamaged: This member has voted before, and does not know all of that any more.
        """
        present = load_genesis(self._folder.genesis)
        if present is not None:
            return present
        check_nothing_is_left(self._folder)
        if record.cluster_id == self._loss.cluster_id:
            record = msgspec.structs.replace(record, term=max(record.term, self._loss.term))
        save_genesis(self._folder.genesis, record, self._me_id)
        return record

    def begin(self) -> None:
        """Just before the raft process starts: if its files are lost, no vote is a new one.

        Raises:
            LogDamaged: They are lost already.
        """
        check_raft_folder(self._folder)
        forget_no_vote(self._folder)
        self._no_vote = None

    def note_begun(self) -> None:
        """The raft process has its files."""
        note_raft_started(self._folder)

    # Ending

    def note_loss(self, state: ClusterState, term: int) -> None:
        """This member was told that it has no vote.

        Args:
            state: What it knows.
            term: Of its raft process.
        """
        self._loss = _Loss(state.cluster_id, state.electorate_at, term)

    def note_no_vote(self, state: ClusterState) -> None:
        """By this state, which is as new as the cluster's, this member has no vote.

        Raises:
            OSError: It is not on disk.
        """
        self._no_vote = save_no_vote(self._folder, state)

    def forget(self, state: ClusterState) -> None:
        """What it voted for is of use to nobody: it votes again in later terms only.

        The genesis goes first, and that there is no vote is noted last: until then it uses none.

        Args:
            state: A committed one in whose electorate it is not.
        """
        leave_genesis(self._folder, state, term=self._loss.term)
        self._loss = _Loss(state.cluster_id, state.electorate_at, self._loss.term)
        self._folder.raft_started.unlink(missing_ok=True)
        for path in list(self._folder.raft.iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self.note_no_vote(state)

    def put_away(self, state: ClusterState) -> None:
        """The same, keeping what is damaged for whoever wants to know why."""
        kept = self._folder.damaged_raft
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self._folder.raft, kept, copy_function=_copy_what_can_be_read)
        for path in (self._folder.genesis, self._folder.former_genesis, self._folder.no_vote):
            if path.is_dir():
                shutil.copytree(path, kept / path.name, copy_function=_copy_what_can_be_read)
                shutil.rmtree(path)
            elif path.exists():
                _copy_what_can_be_read(path, kept / path.name)
        self.forget(state)


def _copy_what_can_be_read(source: str | Path, target: str | Path) -> None:
    """What cannot is damaged: a member that waited for it would never vote again.

    Raises:
        OSError: There is no room for the copy, or no descriptor or memory to read it with.
    """
    try:
        shutil.copy2(source, target)
    except OSError as error:
        if error.errno in (*FULL, *LACKING):
            raise
        log.warning("a damaged file is not kept", file=str(source), reason=str(error))
