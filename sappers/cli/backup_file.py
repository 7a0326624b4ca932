"""The file of a backup: sealed with a checksum, replaced as a whole, for its owner alone."""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec

from sappers.consensus.sealed import seal, unseal
from sappers.decisions.event_chain import broken_in
from sappers.durable import write_durably
from sappers.errors import BackupError, LogDamaged
from sappers.model.backup import BACKUP_BYTES_MAX, BACKUP_FORMAT, RESTORED_BYTES_MAX, Backup
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import decode_state

_KIND = "backup"
_HINT = "take another copy of the file, or an older backup"


def write_backup(path: Path, backup: Backup) -> int:
    """Write it, 0600, as a whole or not at all; its size in bytes.

    Raises:
        OSError: The disk refuses; what stood there stands still.
        BackupError: It is too large to be read again.
    """
    packed = msgspec.msgpack.encode(backup)
    if len(packed) > BACKUP_BYTES_MAX or len(backup.taken.state) > RESTORED_BYTES_MAX:
        raise BackupError(
            f"the backup would have {len(packed) >> 20} MiB unpacked, and not be read again",
            hint="sappers_events_keep_mib in the inventory keeps fewer events",
        )
    content = seal(_KIND, zlib.compress(packed, 6))
    write_durably(path, content)
    return len(content)


def read_backup(path: Path) -> tuple[Backup, ClusterState]:
    """A backup and the state in it, checked: the checksum, the format, the chain of events.

    Raises:
        BackupError: It is missing, damaged, or of another version.
    """
    try:
        content = unseal(_KIND, path.read_bytes(), path, _HINT)
        unpacker = zlib.decompressobj()
        packed = unpacker.decompress(content, BACKUP_BYTES_MAX)
        if not unpacker.eof:
            raise BackupError(f"{path} is cut short, or too large", hint=_HINT)
        backup = msgspec.msgpack.decode(packed, type=Backup)
        if len(backup.taken.state) > RESTORED_BYTES_MAX:
            raise BackupError(f"{path} holds a state that is too large", hint=_HINT)
        state = decode_state(backup.taken.state)
    except OSError as error:
        raise BackupError(
            f"{path}: {error.strerror}", hint="give the file that sappers-deploy backup wrote"
        ) from error
    except (LogDamaged, zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackupError(f"{path} is no backup that can be read: {error}", hint=_HINT) from error
    if backup.format != BACKUP_FORMAT:
        raise BackupError(
            f"{path} has format {backup.format}, this version reads {BACKUP_FORMAT}",
            hint="restore it with the version of sappers-deploy that made it",
        )
    if (broken := broken_in(backup.events, state)) is not None:
        raise BackupError(f"{path}: event {broken.number}: {broken.reason}", hint=_HINT)
    return backup, state
