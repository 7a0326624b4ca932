from __future__ import annotations

import msgspec
import pytest

from sappers.consensus import replica
from sappers.consensus.replica import Replica
from sappers.model.commands import Entry
from tests.unit.worlds import founded


def entry(index: int, size: int = 1) -> Entry:
    return Entry(index, 1, bytes(size))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "ENTRIES_KEPT", 10)
    monkeypatch.setattr(replica, "ENTRY_BYTES_KEPT", 1000)


def kept(one: Replica) -> list[int]:
    return [index for index in range(1, one.state.index) if one.entries_after(index, 1)]


def test_the_newest_entries_are_kept_as_many_as_there_is_room_for() -> None:
    one = Replica()
    one.advance(entry(index) for index in range(2, 30))
    assert kept(one) == [*range(19, 29)]
    one.advance(entry(index, 300) for index in range(30, 34))
    assert kept(one) == [30, 31, 32]
    one.advance([entry(34, 5000)])
    assert kept(one) == []
    assert one.entries_after(33, 1) is None
    one.advance([entry(35, 10)])
    assert [found.index for found in one.entries_after(34, 9)] == [35]


def test_what_the_state_machine_fails_at_changes_nothing_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("poison")

    one, good = Replica(), founded(3)
    one.replace(good)
    monkeypatch.setattr(replica, "apply", fail)
    assert one.advance([Entry(good.index + 1, good.term + 1, b"poison")])
    expected = msgspec.structs.replace(good, index=good.index + 1, term=good.term + 1)
    assert (one.state, one.halted) == (expected, "")
    monkeypatch.undo()
    assert one.advance([Entry(good.index + 2, good.term + 1, b"no proposal")])
    assert one.state.index == good.index + 2
