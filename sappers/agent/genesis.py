"""The genesis: how a cluster begins exactly once.

Invariant: a member that has a genesis on disk never takes another. One founder alone decides the
first voters, writes its decision durably, and only then tells the others; so however often it is
interrupted, there is one genesis. A rival could come only from a second founder, which the
settings name just one of, or from a founder that lost its disk; `choose_first_voters` founds
nothing where anybody has a vote already.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from sappers.config import StateFolder
from sappers.durable import remove_durably, write_durably
from sappers.errors import IdentityError, LogDamaged
from sappers.model.view import Genesis


def load_genesis(path: Path) -> Genesis | None:
    """The genesis on disk, or None where this member has none.

    Raises:
        LogDamaged: The file cannot be read; the member must not act as if it were new.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Genesis)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as error:
        raise LogDamaged(
            f"{path}: {error}",
            hint="copy the file from another voter; it is the same on all of them",
        ) from error


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


def leave_genesis(folder: StateFolder, *, index: int, term: int) -> None:
    """Start no raft process any more; it stays known that this member has had a vote.

    Args:
        folder: STATE_DIR.
        index: Of a committed electorate in which this member has no vote.
        term: It may have voted in all terms up to this one.
    """
    genesis = load_genesis(folder.genesis)
    if genesis is None:
        return
    former = msgspec.structs.replace(genesis, index=index, term=max(genesis.term, term))
    write_durably(folder.former_genesis, msgspec.json.encode(former))
    remove_durably(folder.genesis)


def check_raft_folder(folder: StateFolder) -> None:
    """Refuse to vote with an empty memory: a vote that was forgotten could be given twice.

    Raises:
        LogDamaged: This member has voted before, and its raft folder is empty now.
    """
    if not folder.raft_started.exists():
        return
    if not any(path.name != "lock" for path in folder.raft.iterdir()):
        raise LogDamaged(
            f"{folder.raft} is empty, but this member has voted before: its votes are not known",
            hint=f"put the folder back; if it is lost, empty {folder.root} and run "
            "sappers-deploy bootstrap: the host joins again as a new member",
        )


def note_raft_started(folder: StateFolder) -> None:
    """Remember, outside the raft folder, that there is something in it."""
    if not folder.raft_started.exists():
        write_durably(folder.raft_started, b"")
