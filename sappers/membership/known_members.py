"""The file of everyone ever met, so that a restart or a long partition forgets nobody."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from sappers.durable import write_durably
from sappers.errors import MembershipError
from sappers.model.member import Member

log = structlog.get_logger("sappers.membership")


def load_known_members(path: Path) -> tuple[Member, ...]:
    """Those in the file; a damaged file is put aside, for gossip can meet them all again."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[Member, ...])
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        aside = path.with_name(path.name + ".damaged")
        log.warning("known members cannot be read", path=str(path), why=str(error))
        try:
            path.replace(aside)
        except OSError as failure:
            raise MembershipError(f"{path}: {failure.strerror}") from failure
        return ()


def save_known_members(path: Path, members: Sequence[Member]) -> None:
    """Replace the file, atomically.

    Raises:
        OSError: The disk is full or not writable.
    """
    write_durably(path, msgspec.json.format(msgspec.json.encode(tuple(members))))
