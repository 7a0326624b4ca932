from __future__ import annotations

import pytest

from sappers.consensus import replica
from sappers.consensus.replica import Replica
from sappers.model.commands import Entry


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
