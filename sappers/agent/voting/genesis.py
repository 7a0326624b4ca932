"""The genesis: how a cluster begins exactly once.

Invariant: a member that has a genesis on disk never takes another. One founder alone decides the
first voters, writes its decision durably, and only then tells the others; so however often it is
interrupted, there is one genesis. A rival could come only from a second founder, which the
settings name just one of, or from a founder that lost its disk; `choose_first_voters` founds
nothing where anybody has a vote already.

What a member without genesis may do with a vote that the cluster gives: `vote_memory.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from sappers.config import StateFolder
from sappers.durable import LACKING, remove_durably, write_durably
from sappers.errors import DAMAGED_HINT, IdentityError, LogDamaged
from sappers.model.cluster_state import ClusterState
from sappers.model.entry_place import EntryPlace
from sappers.model.known_types import UNREADABLE
from sappers.model.view import Genesis

_Kept = TypeVar("_Kept")


class NoVote(msgspec.Struct, frozen=True):
    """That this member has no vote, as it heard from the cluster, and has begun to use none since.

    Attributes:
        index, term: Of the electorate in which it had none; the term is 0 in files of before.
    """

    cluster_id: str
    index: int
    term: int = 0

    def precedes(self, state: ClusterState) -> bool:
        """Whether the vote that a state gives was given after this."""
        given = state.electorate_at
        return state.cluster_id == self.cluster_id and given.is_after(
            EntryPlace(self.index, self.term)
        )


def load_genesis(path: Path) -> Genesis | None:
    """The genesis on disk, or None where this member has none.

    Raises:
        LogDamaged: The file cannot be read; the member must not act as if it were new.
        OSError: This machine lacks memory or descriptors: it may be read later.
    """
    return _load(path, Genesis)


def load_no_vote(path: Path) -> NoVote | None:
    """What this member heard of having no vote, or None where it has not.

    Raises:
        LogDamaged, OSError: As `load_genesis`.
    """
    return _load(path, NoVote)


def save_no_vote(folder: StateFolder, state: ClusterState) -> NoVote:
    """Remember that by this state this member has no vote."""
    heard = NoVote(state.cluster_id, state.electorate_index, state.electorate_term)
    write_durably(folder.no_vote, msgspec.json.encode(heard))
    return heard


def forget_no_vote(folder: StateFolder) -> None:
    """Before a vote is used: if what it is used with is lost, nothing shall say that it is new."""
    if folder.no_vote.exists():
        remove_durably(folder.no_vote)


def load_invited(path: Path) -> frozenset[str]:
    """Ids of the first voters that have taken the genesis, as the founder noted.

    Raises:
        LogDamaged, OSError: As `load_genesis`.
    """
    return frozenset(_load(path, list[str]) or ())


def save_invited(path: Path, member_ids: Iterable[str]) -> None:
    """Note them durably."""
    write_durably(path, msgspec.json.encode(sorted(member_ids)))


def _load(path: Path, kind: type[_Kept]) -> _Kept | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (*UNREADABLE, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> LogDamaged:
    """What to raise where something cannot be read.

    Raises:
        OSError: The error itself, if it says nothing of what is to be read.
    """
    if isinstance(error, OSError) and error.errno in LACKING:
        raise error
    return LogDamaged(f"{path}: {error}", hint=DAMAGED_HINT)


def save_genesis(path: Path, genesis: Genesis, member_id: str) -> None:
    """Write the genesis once, durably.

    Raises:
        IdentityError: There is another one already, or this member is not named in it.
    """
    present = load_genesis(path)
    if present is not None and present.cluster_id == genesis.cluster_id:
        return  # the founder's word, or the cluster's own where that came first
    if present is not None:
        raise IdentityError(
            f"{member_id} belongs to cluster {present.cluster_id} already, not {genesis.cluster_id}"
        )
    if member_id not in genesis.voters:
        raise IdentityError(f"{member_id} is none of the voters {', '.join(genesis.voters)}")
    write_durably(path, msgspec.json.encode(genesis))


def leave_genesis(folder: StateFolder, state: ClusterState, *, term: int) -> None:
    """Start no raft process any more; it stays known that this member has had a vote.

    Args:
        folder: STATE_DIR.
        state: A committed one in whose electorate this member has no vote.
        term: It may have voted in all terms up to this one.
    """
    try:
        genesis = load_genesis(folder.genesis)
    except LogDamaged:
        genesis = None
    if genesis is None:
        genesis = Genesis(state.cluster_id, "", (), {})
    former = msgspec.structs.replace(
        genesis,
        index=state.electorate_index,
        electorate_term=state.electorate_term,
        term=max(genesis.term, term),
    )
    write_durably(folder.former_genesis, msgspec.json.encode(former))
    remove_durably(folder.genesis)


def check_raft_folder(folder: StateFolder) -> None:
    """Refuse to vote with an empty memory: a vote that was forgotten could be given twice.

    Raises:
        LogDamaged: This member has voted before, and its raft folder is empty now.
    """
    if folder.raft_started.exists() and not _holds_anything(folder.raft):
        raise LogDamaged(
            f"{folder.raft} is empty, but this member has voted before: its votes are not known",
            hint=DAMAGED_HINT,
        )


def check_nothing_is_left(folder: StateFolder) -> None:
    """Refuse to be new where there is no genesis: entries that it acknowledged may be there.

    Raises:
        LogDamaged: This member has voted before.
    """
    left = [path for path in (folder.raft_started,) if path.exists()]
    left += [folder.raft] * _holds_anything(folder.raft)
    if left:
        raise LogDamaged(
            f"{folder.genesis} is missing, but this member has voted before:"
            f" {' and '.join(str(path) for path in left)} {'are' if left[1:] else 'is'} there",
            hint=DAMAGED_HINT,
        )


def _holds_anything(raft: Path) -> bool:
    try:
        return any(path.name != "lock" for path in raft.iterdir())
    except OSError as error:
        raise _damaged(raft, error) from error


def note_raft_started(folder: StateFolder) -> None:
    """Remember, outside the raft folder, that there is something in it."""
    if not folder.raft_started.exists():
        write_durably(folder.raft_started, b"")
