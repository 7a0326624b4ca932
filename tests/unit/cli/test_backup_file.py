from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sappers.cli import backup_file
from sappers.cli.backup_file import open_backup, write_backup
from sappers.consensus.sealed import seal
from sappers.decisions.backup import portable
from sappers.errors import BackupError
from sappers.model.backup import BACKUP_FORMAT, RESTORED_BYTES_MAX, Backup, TakenState
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import encode_state
from sappers.model.event import Event, event_digest
from tests.unit.worlds import founded

STATE = portable(founded())


def backup(format_: int = BACKUP_FORMAT) -> Backup:
    taken = TakenState(STATE.index, encode_state(STATE), ())
    return Backup(format=format_, taken_at=1.0, cluster="lab", taken=taken)


def chain(count: int, text: str = "text") -> tuple[ClusterState, list[Event]]:
    """A state whose events these are."""
    events, head = [], ""
    for number in range(1, count + 1):
        events.append(Event(number, 1, 1.0, "a.b", "x", text, "m1", head, number=number))
        head = event_digest(events[-1])
    return msgspec.structs.replace(STATE, event_count=count, event_head=head), events


def of_state(state: ClusterState) -> Backup:
    taken = TakenState(state.index, encode_state(state), ())
    return msgspec.structs.replace(backup(), taken=taken)


def test_what_was_written_is_read_again_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "lab.backup"
    size, numbers = write_backup(path, backup(), STATE.events)
    assert (size, numbers.count) == (path.stat().st_size, len(STATE.events))
    assert path.stat().st_mode & 0o777 == 0o600
    with open_backup(path) as saved:
        assert (saved.backup, saved.state) == (backup(), STATE)
        assert list(saved.record) == list(STATE.events)
    assert list(tmp_path.iterdir()) == [path]


@given(st.data())
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "lab.backup"
    write_backup(path, backup(), STATE.events)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path.write_bytes(bytes(content))
    with pytest.raises(BackupError, match=r"lab\.backup") as caught, open_backup(path):
        pass
    assert caught.value.hint


def refused(path: Path, match: str) -> BackupError:
    with pytest.raises(BackupError, match=match) as caught, open_backup(path):
        pass
    return caught.value


def test_events_that_are_no_chain_are_refused_and_missing_ones_are_not(tmp_path: Path) -> None:
    path = tmp_path / "lab.backup"
    first, second, *rest = STATE.events
    write_backup(path, backup(), (first, *rest))
    with open_backup(path) as saved:
        assert list(saved.record) == [first, *rest]
        assert saved.record.numbers.missing == [(2, 2)]
        assert saved.record.proven_from == 3
    changed = msgspec.structs.replace(second, text="nothing happened")
    write_backup(path, backup(), (first, changed, *rest))
    refused(path, "event 2: ")
    write_backup(path, backup(), STATE.events[:-1])
    refused(path, "newest")


def test_pages_are_read_from_the_newest_on_and_no_further_than_they_are_proven(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lab.backup"
    state, events = chain(100)
    write_backup(path, of_state(state), [*events[:20], *events[30:]], page_bytes=1000)
    with open_backup(path) as saved:
        got: list[Event] = []
        while page := saved.record.before(got[0].number if got else 101):
            assert len(page) < 20
            got = [*page, *got]
        assert got == events[30:]


def test_a_record_larger_than_what_may_be_in_memory_is_written_and_read(tmp_path: Path) -> None:
    """A long one at small scale: what is in memory is a few pages, whatever its length."""
    path = tmp_path / "lab.backup"
    page_bytes, text = 20_000, "x" * 400
    state, events = chain(5_000, text)
    unpacked = sum(len(msgspec.msgpack.encode(event)) for event in events)

    def told() -> Iterator[Event]:
        for event in events:  # each is a new one, as if it had just been heard
            yield msgspec.structs.replace(event)

    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        write_backup(path, of_state(state), told(), page_bytes=page_bytes)
        with open_backup(path) as saved:
            assert sum(1 for _ in saved.record) == 5_000
            assert saved.record.before(5_001)[-1].number == 5_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert unpacked > 100 * page_bytes
    assert peak - before < unpacked / 4


def test_what_cannot_be_told_to_its_end_is_not_written(tmp_path: Path) -> None:
    def told() -> Iterator[Event]:
        yield STATE.events[0]
        raise BackupError("the past was changed")

    path = tmp_path / "lab.backup"
    path.write_text("an older one")
    with pytest.raises(BackupError, match="changed"):
        write_backup(path, backup(), told())
    assert path.read_text() == "an older one"
    assert list(tmp_path.iterdir()) == [path]


def test_another_format_and_no_file_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "lab.backup"
    write_backup(path, backup(format_=3), STATE.events)
    refused(path, "format 3")
    path.write_bytes(seal("backup", zlib.compress(b"all in one")))
    assert "version of sappers-deploy that made it" in str(refused(path, "format 1").hint)
    refused(tmp_path / "missing", "No such file")
    refused(tmp_path, "Is a directory")


def test_what_is_too_large_is_neither_written_nor_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lab.backup"
    large = msgspec.structs.replace(
        backup(), taken=TakenState(1, bytes(RESTORED_BYTES_MAX + 1), ())
    )
    with pytest.raises(BackupError, match="not be read again"):
        write_backup(path, large, ())
    assert not path.exists()
    head = zlib.compress(msgspec.msgpack.encode(large))
    path.write_bytes(seal("backup", len(head).to_bytes(4, "big") + head))
    refused(path, "too large")
    write_backup(path, backup(), STATE.events)
    monkeypatch.setattr(backup_file, "HEAD_BYTES_MAX", 100)
    refused(path, "too large")
    monkeypatch.undo()
    monkeypatch.setattr(backup_file, "_PAGE_BYTES_MAX", 100)
    refused(path, "too large")
