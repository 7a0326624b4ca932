from __future__ import annotations

import asyncio
import errno
import os
import time
from pathlib import Path

import msgspec
import pytest

from sappers.consensus.disk import LocalDisk
from sappers.consensus.follower_log import FollowerLog
from sappers.consensus.replica import Replica
from sappers.errors import ApiError, ProposalRejected
from sappers.model.codec import encode_state
from sappers.model.commands import (
    AdoptFormat,
    Entry,
    FoundCluster,
    NoOperation,
    Proposal,
    encode_proposal,
)
from tests.unit.two_formats import NEW, of_format
from tests.waiting import eventually


def entry(index: int, cluster: str = "c", term: int = 1) -> Entry:
    command = FoundCluster(cluster, ("a",)) if index == 3 else NoOperation()
    payload = encode_proposal(Proposal(f"r{index}", "me", float(term), (command,)))
    return Entry(index, term, payload if index != 2 else b"")


class Cluster:
    """A voter that answers from its own replica; entries before `compacted` are gone."""

    def __init__(self, size: int, compacted: int = 1, cluster: str = "c") -> None:
        self.entries = [entry(index, cluster) for index in range(2, size + 1)]
        self.replica = Replica()
        self.replica.advance(self.entries)
        self.compacted = compacted
        self.snapshots = 0
        self.fetches = 0
        self.failures = 0
        self.asked_twice = asyncio.Event()

    def _answer(self) -> None:
        if self.failures:
            self.failures -= 1
            raise ApiError("no voter answers")

    async def snapshot(self) -> bytes:
        self._answer()
        self.snapshots += 1
        if self.snapshots == 2:
            self.asked_twice.set()
        return encode_state(self.replica.state)

    async def after(self, index: int, term: int) -> list[Entry] | None:
        self.fetches += 1
        self._answer()
        if index < self.compacted or any(e.index == index and e.term != term for e in self.entries):
            return None
        return [e for e in self.entries if e.index > index][:4]

    def recover(self, gives_up: int, adds: int) -> None:
        """Go on with fewer entries, and then with others in a later term."""
        first = self.entries[-1].index + 1 - gives_up
        self.entries = self.entries[: len(self.entries) - gives_up]
        self.entries += [entry(index, term=9) for index in range(first, first + adds)]
        self.replica = Replica()
        self.replica.advance(self.entries)


async def reached(log: FollowerLog, index: int) -> None:
    async with asyncio.timeout(60):
        if log.state().index < index:
            async for _ in log.changes():
                if log.state().index >= index:
                    return


async def following(cluster: Cluster, folder: Path) -> FollowerLog:
    log = FollowerLog(cluster.snapshot, cluster.after, folder)
    await log.start()
    return log


async def caught_up(cluster: Cluster, folder: Path) -> FollowerLog:
    """Follows, and has all 20 entries."""
    log = await following(cluster, folder)
    await log.heard(20, 1, "a")
    await reached(log, 20)
    return log


async def test_fed_in_order_it_follows(tmp_path: Path) -> None:
    cluster = Cluster(20)
    log = await following(cluster, tmp_path)
    await log.begin_at(Cluster(3).replica.state)
    for one in cluster.entries:
        await log.feed(one)
        await log.feed(one)
    assert log.state() == cluster.replica.state
    assert (cluster.fetches, cluster.snapshots) == (0, 0)
    assert log.entries_after(18, 10) == (entry(19), entry(20))
    await log.stop()


async def test_a_gap_is_filled_with_entries(tmp_path: Path) -> None:
    cluster = Cluster(20)
    log = await following(cluster, tmp_path)
    await log.begin_at(Cluster(3).replica.state)
    await log.feed(entry(4))
    await log.feed(entry(20))
    await reached(log, 20)
    assert log.state() == cluster.replica.state
    assert cluster.snapshots == 0
    await log.stop()


async def test_what_is_compacted_away_comes_as_a_snapshot(tmp_path: Path) -> None:
    cluster = Cluster(20, compacted=10)
    log = await caught_up(cluster, tmp_path)
    assert log.state() == cluster.replica.state
    assert cluster.snapshots == 1
    assert log.entries_after(5, 10) is None
    assert log.status().leader_id == "a"
    await log.stop()


async def test_it_tries_until_a_voter_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sappers.consensus.follower_log._RETRY_SECONDS", 0.01)
    cluster = Cluster(20)
    cluster.failures = 3
    log = await caught_up(cluster, tmp_path)
    assert cluster.failures == 0
    await log.stop()


@pytest.mark.parametrize(
    "sent", [b"", b"\x81\xaacluster_id\xa1\xff", b"\x81\xa1x" + b"\x91" * 100_000]
)
async def test_it_tries_again_whatever_a_voter_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr("sappers.consensus.follower_log._RETRY_SECONDS", 0.01)
    cluster = Cluster(20)
    answers = iter([sent])

    async def snapshot() -> bytes:
        return next(answers, None) or await cluster.snapshot()

    log = FollowerLog(snapshot, cluster.after, tmp_path)
    await log.start()
    await log.heard(20, 1, "a")
    await reached(log, 20)
    await log.stop()


async def test_a_new_member_starts_from_a_snapshot(tmp_path: Path) -> None:
    cluster = Cluster(20)
    log = await caught_up(cluster, tmp_path)
    assert (cluster.fetches, cluster.snapshots) == (0, 1)
    await log.stop()


async def test_it_starts_from_its_copy(tmp_path: Path) -> None:
    cluster = Cluster(20)
    log = await caught_up(cluster, tmp_path)
    await log.stop()
    again = await following(Cluster(2), tmp_path)
    assert again.state() == cluster.replica.state
    await again.stop()


class FullDisk(LocalDisk):
    """Takes nothing more once it is full."""

    is_full = False

    def replace(self, path: Path, data: bytes) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().replace(path, data)


async def test_it_ends_in_order_though_its_copy_does_not_fit(tmp_path: Path) -> None:
    """What else an agent does as it is stopped, saying goodbye above all, comes after that."""
    cluster, disk = Cluster(20), FullDisk()
    log = FollowerLog(cluster.snapshot, cluster.after, tmp_path, disk)
    await log.start()
    await log.heard(20, 1, "a")
    await reached(log, 20)
    disk.is_full = True
    await log.stop()
    again = await following(cluster, tmp_path)
    await again.heard(20, 1, "a")
    await reached(again, 20)
    await again.stop()


async def test_a_damaged_copy_is_replaced(tmp_path: Path) -> None:
    cluster = Cluster(20, compacted=10)
    (tmp_path / "replica").write_bytes(b"damaged")
    log = await caught_up(cluster, tmp_path)
    await log.stop()


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
async def test_a_copy_that_cannot_be_read_is_replaced(tmp_path: Path, number: int) -> None:
    class Disk(LocalDisk):
        def read(self, path: Path) -> bytes:
            raise OSError(number, os.strerror(number), str(path))

    cluster = Cluster(20)
    log = FollowerLog(cluster.snapshot, cluster.after, tmp_path, Disk())
    await log.start()
    await log.heard(20, 1, "a")
    await reached(log, 20)
    await log.stop()


async def test_two_that_ask_for_a_copy_at_once_do_not_write_into_one_file(tmp_path: Path) -> None:
    class Disk(LocalDisk):
        writing = False

        def replace(self, path: Path, data: bytes) -> None:
            if self.writing:
                raise AssertionError
            self.writing = True
            time.sleep(0.02)  # that another one begins meanwhile
            super().replace(path, data)
            self.writing = False

    cluster = Cluster(20)
    log = FollowerLog(cluster.snapshot, cluster.after, tmp_path, Disk())
    await log.start()
    await log.heard(20, 1, "a")
    await reached(log, 20)
    assert await asyncio.gather(*(log.trigger_snapshot() for _ in range(2))) == [20, 20]
    await log.stop()


async def test_who_asks_for_a_copy_that_cannot_be_written_is_told_so(tmp_path: Path) -> None:
    cluster, disk = Cluster(20), FullDisk()
    log = FollowerLog(cluster.snapshot, cluster.after, tmp_path, disk)
    await log.start()
    await log.heard(20, 1, "a")
    await reached(log, 20)
    disk.is_full = True
    with pytest.raises(ProposalRejected, match="No space left on device"):
        await log.trigger_snapshot()
    await log.stop()


async def test_another_cluster_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sappers.consensus.follower_log._RETRY_SECONDS", 0.01)
    log = await following(ours := Cluster(5), tmp_path)
    await log.heard(5, 1, "a")
    await reached(log, 5)
    theirs = Cluster(20, compacted=10, cluster="other")
    log._fetch_entries, log._fetch_snapshot = theirs.after, theirs.snapshot
    await log.heard(20, 1, "a")
    async with asyncio.timeout(60):
        await theirs.asked_twice.wait()
    assert log.state() == ours.replica.state
    await log.stop()


@pytest.mark.parametrize("adds", [1, 3, 4, 8])
async def test_what_was_given_up_by_a_recovery_is_given_up_here_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adds: int
) -> None:
    monkeypatch.setattr("sappers.consensus.follower_log._RETRY_SECONDS", 0.001)
    cluster = Cluster(20)
    log = await caught_up(cluster, tmp_path)
    cluster.recover(gives_up=4, adds=adds)
    await log.heard(16 + adds, 9, "b")
    for one in cluster.entries[-adds:]:
        await log.feed(one)
    async with asyncio.timeout(60):
        async for _ in log.changes():
            if log.state() == cluster.replica.state:
                break
    assert log.status().is_up_to_date(log.state().term)
    await log.stop()
    again = await following(cluster, tmp_path)
    assert again.state() == cluster.replica.state
    await again.stop()


async def test_a_new_leader_whose_first_entry_is_not_committed_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sappers.consensus.follower_log._RETRY_SECONDS", 0.001)
    cluster = Cluster(20)
    log = await caught_up(cluster, tmp_path)
    await log.heard(18, 9, "b")  # it has all 20 entries, and has not counted them yet
    fetches = cluster.fetches + 20
    async with asyncio.timeout(60):
        while cluster.fetches < fetches:  # noqa: ASYNC110 - nobody tells of them
            await asyncio.sleep(0.001)
    assert log.state().index == 20
    assert cluster.snapshots <= 5
    cluster.recover(gives_up=0, adds=1)
    await reached(log, 21)
    assert log.state() == cluster.replica.state
    await log.stop()


async def test_its_state_is_as_old_as_what_was_told_and_is_applied_here(tmp_path: Path) -> None:
    log = FollowerLog((cluster := Cluster(3)).snapshot, cluster.after, tmp_path)
    await log.start()
    told = asyncio.get_running_loop().time() - 2.5
    await log.heard(3, 1, "a")
    await reached(log, 3)
    assert log.state_age() is None, "nobody said since when"
    await log.heard(3, 1, "a", told)
    assert log.state_age() == pytest.approx(2.5, abs=1.0)
    await log.heard(4, 1, "a", told + 2.0)  # an entry that nobody has yet
    await log.heard(3, 1, "a", told - 1.0)  # late
    assert (log.state_age() or 0.0) >= 2.5
    await log.stop()


async def test_it_has_no_vote(tmp_path: Path) -> None:
    log = await following(Cluster(5), tmp_path)
    with pytest.raises(ProposalRejected):
        await log.propose(Proposal("r", "me", 1.0, ()), 1.0)
    with pytest.raises(ProposalRejected):
        await log.read_barrier(1.0)
    await log.stop()


async def test_an_old_leaders_heartbeat_names_no_leader_and_no_term(tmp_path: Path) -> None:
    log = await following(Cluster(3), tmp_path)
    await log.heard(1, 5, "new")
    await log.heard(1, 4, "old")
    status = log.status()
    assert (status.leader_id, status.term) == ("new", 5)
    # What it says that is committed is: the index is believed, and its term is not gone back to.
    await log.heard(1, 4, None)
    assert log.status().leader_id == "new"
    await log.heard(1, 6, "newer")
    assert (log.status().leader_id, log.status().term) == ("newer", 6)
    await log.stop()


@pytest.mark.parametrize("named", ["b", "c", None])
async def test_what_a_member_claimed_is_forgotten_once_it_is_revoked(
    tmp_path: Path, named: str | None
) -> None:
    """It may have named another leader than itself, or none."""
    cluster = Cluster(5)
    log = await following(cluster, tmp_path)
    await log.begin_at(cluster.replica.state)
    await log.heard(2**60, 2**60, named)
    state = log.state()
    later = msgspec.structs.replace(
        state, index=state.index + 1, revoked=state.revoked.set("b", 1.0)
    )
    await log.begin_at(later)
    status = log.status()
    assert (status.leader_id, status.term, status.commit_index) == (None, 1, later.index)
    await log.heard(2**60, 2**60, "b")
    await log.heard(later.index, 2, "a")
    status = log.status()
    assert (status.leader_id, status.term, status.commit_index) == ("a", 2, later.index)
    await log.stop()


async def test_where_the_log_gets_a_format_that_it_does_not_know_it_stands_still(
    tmp_path: Path,
) -> None:
    cluster = Cluster(20)
    adopt = encode_proposal(Proposal("adopt", "me", 1.0, (AdoptFormat(NEW),)))
    cluster.entries[10] = Entry(12, 1, adopt)
    with of_format(NEW):
        cluster.replica = Replica()
        cluster.replica.advance(cluster.entries)
    log = await following(cluster, tmp_path)
    await log.begin_at(Cluster(3).replica.state)
    await log.heard(20, 1, "a")
    await reached(log, 11)
    await eventually(lambda: log.status().halted)
    fetches = cluster.fetches
    await log.feed(entry(12))
    await log.heard(20, 1, "a")
    await asyncio.sleep(0)
    assert (log.state().index, cluster.fetches) == (11, fetches)
    assert not log.status().is_up_to_date(log.state().term)
    await log.stop()
    fresh = await following(cluster, tmp_path / "fresh")
    await fresh.heard(20, 1, "a")
    await eventually(lambda: fresh.status().halted)
    assert fresh.state().index == 1
    await fresh.stop()
    with of_format(NEW):
        later = await following(cluster, tmp_path)
        await later.heard(20, 1, "a")
        await reached(later, 20)
        assert later.state() == cluster.replica.state
        await later.stop()
