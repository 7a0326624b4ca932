from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from sappers.consensus.snapshot import SnapshotStore, read_snapshot
from sappers.errors import LogDamaged
from sappers.model.cluster_state import ClusterState
from sappers.model.workload import ImageReference, Workload
from tests.simulation.disk import SimulatedDisk

PREVIOUS, LAST = (b"\0a", 8, 2), (b"\0b", 9, 2)


def state(size: int = 3) -> ClusterState:
    workloads = {f"w{n}": Workload(f"w{n}", ImageReference("i", "0" * 64)) for n in range(size)}
    empty = ClusterState(index=9, term=2)
    return ClusterState(index=9, term=2, workloads=empty.workloads.update(workloads))


def written(path: Path, what: ClusterState) -> SnapshotStore:
    store = SnapshotStore(path)
    store.serialize(({"state": what}, LAST, PREVIOUS, None), PREVIOUS[1])
    assert store._writer is not None
    store._writer.join()
    return store


def chunks(store: SnapshotStore) -> list[tuple[bytes, bool, bool]]:
    parts = []
    while not parts or not parts[-1][2]:
        part = store.getTransmissionData("peer")
        assert part is not None
        parts.append(part)
    return parts


def test_it_comes_back_as_it_was_taken(tmp_path: Path) -> None:
    store = written(tmp_path / "snapshot", state())
    assert store.checkSerializing() == (2, PREVIOUS[1])
    assert store.checkSerializing() == (0, None)
    found = read_snapshot(tmp_path / "snapshot")
    assert found is not None
    assert (found.last, found.previous, found.decoded()) == (LAST, PREVIOUS, state())
    assert (tmp_path / "snapshot").stat().st_mode & 0o777 == 0o600


def test_none_is_none(tmp_path: Path) -> None:
    assert read_snapshot(tmp_path / "snapshot") is None


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "longer", "other"])
def test_a_damaged_one_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "snapshot"
    written(path, state())
    data = bytearray(path.read_bytes())
    match damage:
        case "empty":
            data.clear()
        case "cut":
            del data[-10:]
        case "flipped":
            data[len(data) // 2] ^= 1
        case "longer":
            data += b"more"
        case "other":
            data[8:16] = b"term\0\0\0\0"
    path.write_bytes(data)
    with pytest.raises(LogDamaged, match="snapshot") as caught:
        SnapshotStore(path)
    assert caught.value.hint


def test_one_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "snapshot").mkdir()
    with pytest.raises(LogDamaged, match="/snapshot cannot be read: Is a directory"):
        SnapshotStore(tmp_path / "snapshot")


def test_a_failed_write_leaves_the_old_one(tmp_path: Path) -> None:
    store = written(tmp_path / "snapshot", state())
    store.checkSerializing()
    store.path = tmp_path / "no such folder" / "snapshot"
    store.serialize(({"state": state(5)}, LAST, PREVIOUS, None), PREVIOUS[1])
    assert store._writer is not None
    store._writer.join()
    assert store.checkSerializing() == (1, PREVIOUS[1]), "it waits before it tries again"
    store._retry_at = 0
    assert store.checkSerializing() == (3, PREVIOUS[1])
    found = read_snapshot(tmp_path / "snapshot")
    assert found is not None
    assert found.decoded() == state()


def test_one_that_is_read_again_survives_a_power_loss_though_its_writing_failed(
    tmp_path: Path,
) -> None:
    """The journal is trimmed to what was read; the one before must not come back."""
    path = tmp_path / "snapshot"
    written(path, state())
    disk = SimulatedDisk(random.Random(1))
    disk.replace(path, path.read_bytes())
    written(path, state(5))
    newer, checks = path.read_bytes(), iter((False, True))

    def fail_once() -> None:
        if next(checks, False):
            raise OSError("the folder was not synced")

    with patch.object(disk, "check_health", fail_once), pytest.raises(OSError, match="folder"):
        disk.replace(path, newer)
    found = SnapshotStore(path, disk=disk).loaded
    assert found is not None
    disk.lose_power()
    again = SnapshotStore(path, disk=disk).loaded
    assert again is not None
    assert again.decoded() == found.decoded() == state(5)


def test_it_travels_in_chunks(tmp_path: Path) -> None:
    sender = written(tmp_path / "snapshot", state(5000))
    receiver = SnapshotStore(tmp_path / "received")
    parts = chunks(sender)
    assert len(parts) > 2
    results = [receiver.setTransmissionData(part) for part in parts]
    assert results == [*[False] * (len(parts) - 1), True]
    assert (tmp_path / "received").read_bytes() == (tmp_path / "snapshot").read_bytes()
    assert receiver.index == 9


def test_a_lost_chunk_or_an_old_snapshot_changes_nothing(tmp_path: Path) -> None:
    parts = chunks(written(tmp_path / "snapshot", state(5000)))
    receiver = SnapshotStore(tmp_path / "received", newest_useful=lambda: 0)
    assert not any(receiver.setTransmissionData(part) for part in parts[:1] + parts[2:])
    assert not any(receiver.setTransmissionData(part) for part in parts[1:])
    newer: Any = SnapshotStore(tmp_path / "received", newest_useful=lambda: 9)
    assert not any(newer.setTransmissionData(part) for part in parts)
    assert not (tmp_path / "received").exists()
