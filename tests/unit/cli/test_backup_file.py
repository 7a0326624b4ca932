from __future__ import annotations

import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sappers.cli import backup_file
from sappers.cli.backup_file import read_backup, write_backup
from sappers.consensus.sealed import seal
from sappers.decisions.backup import portable
from sappers.errors import BackupError
from sappers.model.backup import BACKUP_FORMAT, RESTORED_BYTES_MAX, Backup, TakenState
from sappers.model.codec import encode_state
from tests.unit.worlds import founded

STATE = portable(founded())


def backup(**changes: object) -> Backup:
    made = {"format": BACKUP_FORMAT, "events": tuple(STATE.events)} | changes
    taken = TakenState(STATE.index, encode_state(STATE), ())
    return Backup(taken_at=1.0, cluster="lab", taken=taken, **made)


def test_what_was_written_is_read_again_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "lab.backup"
    assert write_backup(path, backup()) == path.stat().st_size
    assert path.stat().st_mode & 0o777 == 0o600
    found, state = read_backup(path)
    assert (found, state) == (backup(), STATE)
    assert list(tmp_path.iterdir()) == [path]


@given(st.data())
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "lab.backup"
    write_backup(path, backup())
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path.write_bytes(bytes(content))
    with pytest.raises(BackupError, match=r"lab\.backup") as caught:
        read_backup(path)
    assert caught.value.hint


def test_events_that_are_no_chain_are_refused_and_missing_ones_are_not(tmp_path: Path) -> None:
    path = tmp_path / "lab.backup"
    first, second, *rest = STATE.events
    write_backup(path, backup(events=(first, *rest)))
    assert read_backup(path)[0].events == (first, *rest)
    changed = msgspec.structs.replace(second, text="nothing happened")
    write_backup(path, backup(events=(first, changed, *rest)))
    with pytest.raises(BackupError, match="event 2: "):
        read_backup(path)
    write_backup(path, backup(events=STATE.events[:-1]))
    with pytest.raises(BackupError, match="newest"):
        read_backup(path)


def test_another_format_and_no_file_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "lab.backup"
    write_backup(path, backup(format=2))
    with pytest.raises(BackupError, match="format 2"):
        read_backup(path)
    with pytest.raises(BackupError, match="No such file"):
        read_backup(tmp_path / "missing")
    with pytest.raises(BackupError, match="Is a directory"):
        read_backup(tmp_path)


def test_what_is_too_large_is_neither_written_nor_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lab.backup"
    large = msgspec.structs.replace(
        backup(), taken=TakenState(1, bytes(RESTORED_BYTES_MAX + 1), ())
    )
    with pytest.raises(BackupError, match="not be read again"):
        write_backup(path, large)
    assert not path.exists()
    path.write_bytes(seal("backup", zlib.compress(msgspec.msgpack.encode(large))))
    with pytest.raises(BackupError, match="too large"):
        read_backup(path)
    write_backup(path, backup())
    monkeypatch.setattr(backup_file, "BACKUP_BYTES_MAX", 100)
    with pytest.raises(BackupError, match="too large"):
        read_backup(path)
