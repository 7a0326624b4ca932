from __future__ import annotations

import errno
import os
import random
import struct
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sappers.consensus.disk import LocalDisk
from sappers.consensus.journal import Journal
from sappers.consensus.sealed import seal
from sappers.errors import LogDamaged
from sappers.model.entry_place import EntryPlace
from tests.simulation.disk import SimulatedDisk

FIRST = (b"\x01", 1, 0)


def filled(folder: Path, count: int, *, sync_each: bool = True) -> Journal:
    journal = Journal(folder)
    journal.add(*FIRST)
    for index in range(2, count + 1):
        journal.add(b"\0command %d" % index, index, 1)
        if sync_each:
            journal.sync()
    journal.sync()
    return journal


def content(folder: Path) -> bytes:
    """What was written, without the room that was made ahead."""
    return (folder / "journal").read_bytes().rstrip(b"\0")


def entries(journal: Journal) -> list[tuple[bytes, int, int]]:
    return list(journal[:])


def test_what_was_synced_is_there_again(tmp_path: Path) -> None:
    journal = filled(tmp_path, 20)
    journal.setCurrentTerm(7, "other")
    journal.setRaftCommitIndex(12)
    journal.onOneSecondTimer()
    journal.sync()
    again = Journal(tmp_path)
    assert entries(again) == entries(journal)
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (7, "other")
    assert again.getRaftCommitIndex() == 12


def test_nothing_reaches_the_file_before_sync(tmp_path: Path) -> None:
    journal = filled(tmp_path, 3)
    before = content(tmp_path)
    journal.add(b"\0more", 4, 1)
    assert content(tmp_path) == before
    assert journal.sync()
    assert not journal.sync()
    assert content(tmp_path).endswith(b"\0more")


def test_a_sync_finds_room_that_was_made_by_another(tmp_path: Path) -> None:
    """The file system has no new size to sync then, and no new blocks."""
    journal = filled(tmp_path, 3)
    before = (tmp_path / "journal").stat()
    for index in range(4, 100):
        journal.add(b"\0more", index, 1)
        journal.sync()
    after = (tmp_path / "journal").stat()
    assert (after.st_size, after.st_blocks) == (before.st_size, before.st_blocks)
    kept = entries(journal)
    assert entries(Journal(tmp_path)) == kept
    assert (tmp_path / "journal").read_bytes() == content(tmp_path), "the room is given back"


def test_an_entry_must_follow_the_last(tmp_path: Path) -> None:
    journal = filled(tmp_path, 3)
    with pytest.raises(ValueError, match="5 does not follow 3"):
        journal.add(b"\0", 5, 1)


@pytest.mark.parametrize("room", [0, 100])
def test_a_torn_tail_is_cut_wherever_it_tears(tmp_path: Path, room: int) -> None:
    journal = filled(tmp_path, 5)
    whole = content(tmp_path)
    journal.add(b"\0torn", 6, 1)
    journal.sync()
    longer = content(tmp_path)
    for length in range(len(whole), len(longer)):
        (tmp_path / "journal").write_bytes(longer[:length] + bytes(room))
        again = Journal(tmp_path)
        assert len(again) == 5
        assert (tmp_path / "journal").read_bytes() == whole
        again._destroy()
    (tmp_path / "journal").write_bytes(longer)
    assert len(Journal(tmp_path)) == 6


def test_a_cut_journal_goes_on(tmp_path: Path) -> None:
    filled(tmp_path, 5)._destroy()
    with (tmp_path / "journal").open("ab") as file:
        file.write(b"\xf5Jr\x01 garbage that was half written")
    journal = Journal(tmp_path)
    journal.add(b"\0six", 6, 2)
    journal.sync()
    assert entries(Journal(tmp_path))[-1] == (b"\0six", 6, 2)


def test_an_unsynced_group_may_be_torn_anywhere(tmp_path: Path) -> None:
    journal = filled(tmp_path, 5)
    synced = len(content(tmp_path))
    for index in range(6, 12):
        journal.add(b"\0group", index, 1)
    journal._file._file.flush()  # the kernel wrote some of it when the power went
    data = bytearray((tmp_path / "journal").read_bytes())
    data[synced + 40 : synced + 60] = bytes(20)
    (tmp_path / "journal").write_bytes(data)
    assert len(Journal(tmp_path)) == 5


def test_a_bad_entry_in_the_middle_is_refused(tmp_path: Path) -> None:
    filled(tmp_path, 20)._destroy()
    data = bytearray((tmp_path / "journal").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "journal").write_bytes(data)
    with pytest.raises(LogDamaged, match=r"journal.*checksum") as caught:
        Journal(tmp_path)
    assert "raft reseed" in str(caught.value.hint)
    assert (tmp_path / "journal").read_bytes() == data, "evidence must not be touched"


def test_a_bad_entry_of_a_trimmed_journal_is_refused(tmp_path: Path) -> None:
    """It was replaced as a whole: none of it is a tail that may be torn."""
    journal = filled(tmp_path, 20)
    journal.deleteEntriesTo(5)
    journal._destroy()
    data = bytearray((tmp_path / "journal").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "journal").write_bytes(data)
    with pytest.raises(LogDamaged, match="checksum"):
        Journal(tmp_path)


@pytest.mark.parametrize("missing", ["journal", "term"])
def test_a_missing_file_is_refused(tmp_path: Path, missing: str) -> None:
    journal = filled(tmp_path, 3)
    journal.setCurrentTerm(2, None)
    journal._destroy()
    (tmp_path / missing).unlink()
    with pytest.raises(LogDamaged, match=f"{missing} is missing"):
        Journal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 64])
def test_an_unreadable_term_is_refused(tmp_path: Path, content: bytes) -> None:
    filled(tmp_path, 3)._destroy()
    (tmp_path / "term").write_bytes(content)
    with pytest.raises(LogDamaged, match="term"):
        Journal(tmp_path)


@pytest.mark.parametrize("name", ["journal", "term", "bound"])
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, name: str) -> None:
    noted(tmp_path, 3)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(LogDamaged, match=f"/{name} cannot be read: Is a directory") as caught:
        Journal(tmp_path)
    assert "raft reseed" in str(caught.value.hint)


@pytest.mark.parametrize("term", [-1, 2**64])
def test_what_has_no_place_in_the_file_is_not_in_the_log(tmp_path: Path, term: int) -> None:
    """Else it would be acknowledged, as the next sync succeeds."""
    journal = Journal(tmp_path)
    journal.add(b"\0first", 1, 1)
    with pytest.raises(struct.error):
        journal.add(b"\0second", 2, term)
    assert (len(journal), journal[-1][1]) == (1, 1)
    journal.add(b"\0second", 2, 1)
    journal.sync()
    assert Journal(tmp_path)[:] == journal[:]


@pytest.mark.parametrize("name", ["journal", "term", "bound"])
@pytest.mark.parametrize("lacking", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_cannot_be_read_for_want_of_room_is_not_damaged(
    tmp_path: Path, name: str, lacking: int
) -> None:
    """A voter gives up its vote where its files are damaged; here it tries again."""
    noted(tmp_path, 3)
    read = LocalDisk.read

    def fails(disk: LocalDisk, path: Path) -> bytes:
        if path.name == name:
            raise OSError(lacking, os.strerror(lacking))
        return read(disk, path)

    with patch.object(LocalDisk, "read", fails), pytest.raises(OSError, match="Errno"):
        Journal(tmp_path)
    Journal(tmp_path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    filled(tmp_path, 3)._destroy()
    (tmp_path / "journal").write_bytes(b"PYSYNCOBJ" + bytes(100))
    with pytest.raises(LogDamaged, match="no journal of this version"):
        Journal(tmp_path)


def test_a_term_that_is_read_again_survives_a_power_loss_though_its_writing_failed() -> None:
    """Who acts on a vote that was read must not have another one after the next power loss."""
    disk = SimulatedDisk(random.Random(1))
    folder = Path("/raft")
    disk.make_folder(folder)
    journal = Journal(folder, disk)
    journal.setCurrentTerm(7, "a")
    checks = iter((False, True))

    def fail_once() -> None:
        if next(checks, False):
            raise OSError("the folder was not synced")

    with patch.object(disk, "check_health", fail_once), pytest.raises(OSError, match="folder"):
        journal.setCurrentTerm(8, "b")
    again = Journal(folder, disk)
    read = again.getCurrentTerm(), again.getVotedForNodeId()
    assert read == (8, "b")
    disk.lose_power()
    once_more = Journal(folder, disk)
    assert (once_more.getCurrentTerm(), once_more.getVotedForNodeId()) == read


def noted(folder: Path, count: int) -> bytes:
    """The bytes of a journal all of whose entries are committed, and noted to be so."""
    journal = filled(folder, count)
    journal.setRaftCommitIndex(count)
    journal.onOneSecondTimer()
    journal._destroy()
    return content(folder)


def ends_of_entries(data: bytes) -> list[int]:
    marks = [at for at in range(len(data)) if data[at : at + 4] == b"\xf5Jr\x01"]
    return [*marks[1:], len(data)]


@pytest.mark.parametrize("room", [0, 300])
def test_a_journal_that_ends_before_what_was_committed_is_refused(
    tmp_path: Path, room: int
) -> None:
    """Cut where a record ends, or zeroed: nothing in the file itself tells."""
    whole = noted(tmp_path, 20)
    ends = ends_of_entries(whole)
    for end in ends[5:19]:
        cut = whole[:end] + bytes(room)
        (tmp_path / "journal").write_bytes(cut)
        with pytest.raises(LogDamaged, match="entry 20 of term 1 was committed") as caught:
            Journal(tmp_path)
        assert "raft reseed" in str(caught.value.hint)
        assert (tmp_path / "journal").read_bytes() == cut, "evidence must not be touched"
    (tmp_path / "journal").write_bytes(whole[: ends[19]])
    assert len(Journal(tmp_path)) == 20


def cut_by_a_later_leader(folder: Path) -> tuple[bytes, int]:
    """A journal whose last two entries took the place of others, and where that is written."""
    journal = filled(folder, 5)
    at = len(content(folder))
    journal.deleteEntriesFrom(3)
    for index in (4, 5):
        journal.add(b"\0another leader's %d" % index, index, 2)
    journal.sync()
    journal.setRaftCommitIndex(5)
    journal.onOneSecondTimer()
    journal._destroy()
    return content(folder), at


@pytest.mark.parametrize("room", [0, 300])
def test_a_journal_that_ends_before_a_cut_has_other_entries_than_were_committed(
    tmp_path: Path, room: int
) -> None:
    """As many as were committed, but those that another leader's took the place of."""
    whole, at = cut_by_a_later_leader(tmp_path)
    assert whole[at : at + 4] == b"\xf5Jr\x01"
    (tmp_path / "journal").write_bytes(whole[:at] + bytes(room))
    with pytest.raises(LogDamaged, match="entry 5 of term 2 was committed"):
        Journal(tmp_path)
    (tmp_path / "journal").write_bytes(whole)
    assert [term for _, _, term in entries(Journal(tmp_path))] == [0, 1, 1, 2, 2]


def test_what_took_the_place_of_others_is_not_noted_before_it_is_synced(tmp_path: Path) -> None:
    """A power loss brings the others back."""
    journal = filled(tmp_path, 5)
    synced = content(tmp_path)
    journal.deleteEntriesFrom(3)
    journal.add(b"\0another leader's", 4, 2)
    journal.setRaftCommitIndex(4)
    journal.onOneSecondTimer()
    journal._file._file.close()
    (tmp_path / "journal").write_bytes(synced)
    assert len(Journal(tmp_path)) == 5


def test_an_earlier_version_noted_the_index_alone(tmp_path: Path) -> None:
    whole = noted(tmp_path, 20)
    (tmp_path / "bound").write_bytes(seal("bound", (15).to_bytes(8, "little")))
    (tmp_path / "journal").write_bytes(whole[: ends_of_entries(whole)[13]])
    with pytest.raises(LogDamaged, match="entry 15 was committed"):
        Journal(tmp_path)
    (tmp_path / "journal").write_bytes(whole)
    journal = Journal(tmp_path)
    journal.setRaftCommitIndex(20)
    journal.onOneSecondTimer()
    journal._destroy()
    assert Journal(tmp_path)._bound == EntryPlace(20, 1)


def test_a_journal_that_is_missing_as_a_whole_is_no_new_one(tmp_path: Path) -> None:
    noted(tmp_path, 5)
    (tmp_path / "journal").unlink()
    (tmp_path / "term").unlink()
    with pytest.raises(LogDamaged, match="bound is not"):
        Journal(tmp_path)


@pytest.mark.parametrize("there", [b"", b"torn by a power loss", None])
def test_one_that_nobody_noted_the_end_of_goes_on(tmp_path: Path, there: bytes | None) -> None:
    """Of an earlier version, for one."""
    noted(tmp_path, 5)
    (tmp_path / "bound").unlink()
    if there is not None:
        (tmp_path / "bound").write_bytes(there)
    journal = Journal(tmp_path)
    assert len(journal) == 5
    journal.setRaftCommitIndex(5)
    journal.onOneSecondTimer()
    journal._destroy()
    (tmp_path / "journal").write_bytes(content(tmp_path)[:100])
    with pytest.raises(LogDamaged, match="was committed"):
        Journal(tmp_path)


def test_what_may_be_cut_by_another_leader_is_not_noted(tmp_path: Path) -> None:
    journal = filled(tmp_path, 20)
    journal.setRaftCommitIndex(12)
    journal.onOneSecondTimer()
    journal.deleteEntriesFrom(12)
    journal.sync()
    journal.reset(journal[:])
    assert len(Journal(tmp_path)) == 12


def test_what_is_not_synced_is_not_noted(tmp_path: Path) -> None:
    """A leader has entries committed by the others while its own sync is to come."""
    journal = filled(tmp_path, 5)
    synced = content(tmp_path)
    journal.add(b"\0more", 6, 1)
    journal.setRaftCommitIndex(6)
    journal.onOneSecondTimer()
    journal._file._file.close()
    (tmp_path / "journal").write_bytes(synced)
    assert len(Journal(tmp_path)) == 5


def test_noting_the_end_syncs_nothing(tmp_path: Path) -> None:
    journal = filled(tmp_path, 5)
    for index in (3, 4):
        journal.setRaftCommitIndex(index)
        if index == 4:
            with patch("os.fsync", side_effect=AssertionError("a sync for it")):
                journal.onOneSecondTimer()
        else:
            journal.onOneSecondTimer()
    assert Journal(tmp_path)._bound == EntryPlace(4, 1)


def test_what_is_read_after_a_failed_sync_survives_a_power_loss() -> None:
    """The kernel takes it for written, and the next sync of it succeeds."""
    disk = SimulatedDisk(random.Random(1))
    folder = Path("/raft")
    journal = Journal(folder, disk)
    journal.add(*FIRST)
    journal.sync()
    journal.add(b"\0failed", 2, 1)
    disk.failing = 1.0
    with pytest.raises(OSError, match="Input/output"):
        journal.sync()
    disk.failing = 0.0
    again = Journal(folder, disk)
    assert len(again) == 2
    again.add(b"\0acknowledged", 3, 1)
    again.sync()
    disk.lose_power()
    assert len(Journal(folder, disk)) == 3


def test_trimming_keeps_the_rest_and_survives(tmp_path: Path) -> None:
    journal = filled(tmp_path, 20)
    kept = entries(journal)[14:]
    journal.deleteEntriesTo(14)
    journal.add(b"\0more", 21, 2)
    journal.sync()
    assert entries(Journal(tmp_path)) == [*kept, (b"\0more", 21, 2)]


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    journal = filled(tmp_path, 3)
    journal.deleteEntriesTo(1)
    for name in ("journal", "term"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.binary(max_size=40)),
        st.tuples(st.just("cut"), st.integers(1, 30)),
        st.tuples(st.just("trim"), st.integers(0, 30)),
        st.tuples(st.just("sync"), st.none()),
        st.tuples(st.just("crash"), st.none()),
        st.tuples(st.just("commit"), st.integers(1, 40)),
    ),
    max_size=60,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(operations=operations)
def test_it_behaves_like_a_list_that_survives(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, object]]
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder)
    journal.add(*FIRST)
    journal.sync()
    now, durable = [FIRST], [FIRST]
    committed = 1  # no leader cuts that
    for operation, argument in operations:
        match operation, argument:
            case "add", bytes(command):
                entry = (b"\0" + command, now[-1][1] + 1, 1)
                journal.add(*entry)
                now.append(entry)
            case "cut", int(position) if all(one[1] > committed for one in now[position:]):
                journal.deleteEntriesFrom(position)
                del now[position:]
            case "trim", int(position) if position < len(now):
                journal.deleteEntriesTo(position)
                now = now[position:]
                durable = list(now)
            case "sync", _:
                journal.sync()
                durable = list(now)
            case "commit", int(index):
                committed = max(committed, index)
                journal.setRaftCommitIndex(committed)
                journal.onOneSecondTimer()
            case "crash", _:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, journal._file._file.fileno())
                os.close(nowhere)
                journal = Journal(folder)
                now = list(durable)
        assert entries(journal) == now
        assert journal.entry_bytes == sum(len(command) for command, _, _ in now)
    journal._destroy()
    assert entries(Journal(folder)) == now
