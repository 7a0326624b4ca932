from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

import sappers.agent.record.event_record as module
from sappers.agent.record.event_files import FILE_BYTES_MAX, EventFiles
from sappers.agent.record.event_record import EventRecord
from sappers.decisions.backup import in_pieces, portable
from sappers.errors import MemberUnreachable
from sappers.model.cluster_state import EVENTS_KEPT, ClusterState
from sappers.model.commands import Proposal, PutWorkload, SetMemberState, StopWorkload
from sappers.model.event import Event, EventFilter, event_digest, event_in, event_line
from sappers.model.member import Member, MemberState
from sappers.model.policy import EventSettings
from tests.fake_member import InstantLog, make_member
from tests.unit.worlds import founded, workload
from tests.waiting import eventually


class Others:
    """Members m2, m3, … that answer from a record of their own."""

    def __init__(self, *records: EventRecord) -> None:
        self.records = records
        self.asked = 0

    async def call(
        self, member: Member, method: str, path: str, *, body: Any = None, timeout_seconds: float
    ) -> bytes:
        self.asked += 1
        if not self.records:
            raise MemberUnreachable("nobody is there")
        record = self.records[int(member.id[1:]) - 2]
        query = dict(part.split("=") for part in path.partition("?")[2].split("&"))
        found = await record.read(EventFilter(first=int(query["first"])), int(query["limit"]))
        return msgspec.json.encode({"index": 1, "events": found})


class World:
    """A member's log and its record."""

    def __init__(
        self,
        folder: Path,
        peers: Others | None = None,
        keep: EventSettings = EventSettings(),  # noqa: B008
    ) -> None:
        self.folder = folder
        self.log = InstantLog(make_member("m1"))
        self.log.current = founded()
        self.peers = peers or Others()
        self._keep = keep
        self.record = self.open()

    def open(self) -> EventRecord:
        """The record as a start of the agent opens it."""
        return EventRecord(
            self.folder,
            self._keep,
            lambda: self.log,
            self.peers,
            lambda: (
                tuple(make_member(f"m{number}") for number in range(1, len(self.peers.records) + 2))
                if self.peers.records
                else (make_member("m1"), make_member("m2"))
            ),
            lambda: "m1",
        )

    async def happen(self, count: int, *, time: float = 100.0) -> None:
        for number in range(count):
            command = PutWorkload(workload(count=number % 7 + 1))
            name = f"{self.log.current.index}"
            await self.log.propose(Proposal(name, "m1", time, (command,), by="operator/a"), 1)

    def file(self) -> Path:
        """The newest; often the only one."""
        return max(self.folder.glob("*.jsonl"))

    def aside(self) -> list[Path]:
        return list(self.folder.glob("*.set-aside"))

    def whole(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self.folder.glob("*.jsonl")))


def chain(events: Sequence[Event]) -> list[int]:
    for before, after in itertools.pairwise(events):
        assert after.previous == event_digest(before)
    return [event.number for event in events]


async def test_what_happened_is_written_once_and_read_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.happen(10)
    await world.record.write_down()
    again = world.open()
    await again.write_down()
    await world.happen(3)
    await again.write_down()
    state = world.log.current
    assert world.whole() == b"".join(event_line(event) + b"\n" for event in state.events)
    found = await again.read(EventFilter(first=4), 5)
    assert chain(found) == [4, 5, 6, 7, 8]
    assert await again.read(EventFilter(), 2) == state.events[-2:]
    check = await again.check()
    assert (check.first, check.last, check.head) == (1, state.event_count, state.event_head)
    assert check.broken is None
    assert world.file().stat().st_mode & 0o777 == 0o600


async def test_filters_find_by_subject_kind_and_time(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.happen(2, time=50.0)
    dead = SetMemberState("m2", MemberState.DEAD, "gossip says so")
    await world.log.propose(Proposal("dead", "m1", 60.0, (dead,), by="member/m1"), 1)
    await world.record.write_down()
    read = world.record.read
    assert [e.kind for e in await read(EventFilter(subject="m2"), 9)] == [
        "member.joined",
        "member.dead",
    ]
    assert [e.kind for e in await read(EventFilter(kind="member.dead"), 9)] == ["member.dead"]
    assert len(await read(EventFilter(kind="member"), 9)) == 4
    assert [e.time for e in await read(EventFilter(since=50.0, kind="workload"), 9)] == [50, 50]


async def test_a_line_that_a_crash_cut_short_is_written_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.happen(5)
    await world.record.write_down()
    path = world.file()
    path.write_bytes(path.read_bytes()[:-7])
    await world.happen(1)
    again = world.open()
    await again.write_down()
    assert (await again.check()).broken is None
    assert len(world.whole().splitlines()) == world.log.current.event_count


@given(st.data())
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_byte_that_was_changed_is_found_with_its_place(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    async def main() -> None:
        world = World(tmp_path_factory.mktemp("events"))
        await world.happen(12)
        await world.record.write_down()
        path = world.file()
        content = bytearray(path.read_bytes())
        where = data.draw(st.integers(0, len(content) - 2))
        content[where] ^= data.draw(st.integers(1, 255))
        row = path.read_bytes()[:where].count(b"\n") + 1
        path.write_bytes(bytes(content))
        broken = (await world.record.check()).broken
        assert broken is not None
        assert broken.place.startswith(str(path))
        # The line that was changed, or the one right before it, whose digest it says.
        assert abs(int(broken.place.split()[-1]) - row) <= 1

    asyncio.run(main())


async def test_a_chain_that_was_made_anew_is_not_the_states(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.happen(12)
    await world.record.write_down()
    events = list(world.log.current.events)
    forged = [msgspec.structs.replace(events[4], text="nothing happened")]
    for event in events[5:]:
        forged.append(msgspec.structs.replace(event, previous=event_digest(forged[-1])))
    path = world.file()
    path.write_bytes(b"".join(event_line(event) + b"\n" for event in [*events[:4], *forged]))
    broken = (await world.record.check()).broken
    assert broken is not None
    assert (broken.number, broken.place) == (5, f"{path} line 5")
    assert "replicated state" in broken.reason


async def test_what_a_member_was_not_there_for_comes_from_others(tmp_path: Path) -> None:
    elder = World(tmp_path / "elder")
    world = World(tmp_path / "younger", Others(elder.record))
    await elder.happen(5)
    world.log.current = elder.log.current
    await world.record.write_down()
    for _ in range(3):
        await elder.happen(EVENTS_KEPT // 2)
        await elder.record.write_down()
    world.log.current = elder.log.current
    await world.record.write_down()
    assert world.whole() == elder.whole()
    newcomer = World(tmp_path / "newcomer", Others(elder.record))
    newcomer.log.current = elder.log.current
    await newcomer.record.write_down()
    assert newcomer.whole() == elder.whole()


async def test_a_record_that_was_changed_at_its_end_is_fetched_as_a_whole(tmp_path: Path) -> None:
    elder = World(tmp_path / "elder")
    for _ in range(3):
        await elder.happen(EVENTS_KEPT // 2)
        await elder.record.write_down()
    world = World(tmp_path / "changed", Others(elder.record))
    world.log.current = elder.log.current
    await world.record.write_down()
    head, _, last = world.file().read_bytes()[:-1].rpartition(b"\n")
    world.file().write_bytes(head + b"\n" + last.replace(b"changed", b"changes") + b"\n")
    await elder.happen(1)
    await elder.record.write_down()
    world.log.current = elder.log.current
    await world.open().write_down()
    assert world.whole() == elder.whole()
    assert world.aside()


async def test_without_others_the_gap_is_told(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.record.write_down()
    last = world.log.current.event_count
    await world.happen(EVENTS_KEPT + 10)
    await world.record.write_down()
    await world.record.write_down()
    check = await world.record.check()
    assert check.missing == ((last + 1, last + 10),)
    assert check.broken is None
    assert world.peers.asked == 1


async def test_a_gap_is_filled_after_a_start_by_whoever_has_a_part_of_it(tmp_path: Path) -> None:
    elder, half = World(tmp_path / "elder"), World(tmp_path / "half")
    for _ in range(5):
        await elder.happen(EVENTS_KEPT // 2)
        await elder.record.write_down()
        if elder.log.current.event_count > 2 * EVENTS_KEPT:
            half.log.current = elder.log.current
            await half.record.write_down()
    assert (await half.record.check()).first > EVENTS_KEPT
    world = World(tmp_path / "world")
    world.log.current = elder.log.current
    await world.happen(EVENTS_KEPT)
    await world.record.write_down()
    assert (await world.record.check()).first > 2 * EVENTS_KEPT
    for one in (elder, half):
        one.log.current = world.log.current
    world.peers.records = (half.record,)
    await world.open().write_down()
    world.peers.records = (half.record, elder.record)
    again = world.open()
    await again.write_down()
    check = await again.check()
    assert (check.first, check.missing, check.broken) == (1, (), None)
    assert check.last == world.log.current.event_count


async def test_what_does_not_lead_to_the_chain_is_not_taken_from_others(tmp_path: Path) -> None:
    other = World(tmp_path / "other")
    await other.happen(20, time=1.0)  # another chain, as before a restore
    await other.record.write_down()
    world = World(tmp_path / "world", Others(other.record))
    await world.happen(EVENTS_KEPT + 500)
    other.log.current = world.log.current
    await world.record.write_down()
    check = await world.record.check()
    assert (check.first, check.missing, check.broken) == (506, (), None)


async def test_files_of_a_chain_from_before_a_restore_are_no_part_of_a_long_one(
    tmp_path: Path,
) -> None:
    world = World(tmp_path / "world")
    await world.happen(20, time=1.0)
    await world.record.write_down()
    old = World(tmp_path / "old")
    await old.happen(EVENTS_KEPT + 500)
    taken = portable(old.log.current)
    for piece in in_pieces(taken, replace=True):
        await world.log.propose(Proposal("r", "m1", 2.0, (piece,), by="operator/a"), 1)
    await world.record.write_down()
    check = await world.record.check()
    assert (check.missing, check.set_aside, check.broken) == ((), 1, None)
    assert check.first > 500

    events = [*await old.record.read(EventFilter(first=1), 2000)]
    forged = msgspec.structs.replace(taken.events[0], text="nothing happened")
    assert await world.record.take_older([forged]) == check.first
    assert await world.record.take_older(taken.events) == taken.events[0].number
    assert await world.record.take_older([]) == taken.events[0].number
    assert len(events) == EVENTS_KEPT
    await world.happen(1)  # the cluster is no more what the backup says
    assert not world.log.current.restored
    check = await world.record.check()
    assert (check.missing, check.broken) == ((), None)

    # But an end that was changed since is told, whatever was restored before it.
    await world.record.write_down()
    content = world.file().read_bytes()
    head, _, end = content.rpartition(b"operator/a")
    world.file().write_bytes(head + b"operator/b" + end)
    await world.happen(1)
    again = world.open()
    await again.write_down()
    assert (await again.check()).broken is not None


async def test_an_end_that_was_changed_is_told_of_a_cluster_that_is_as_it_was_restored(
    tmp_path: Path,
) -> None:
    world, old = World(tmp_path / "world"), World(tmp_path / "old")
    await world.happen(3, time=1.0)
    await world.record.write_down()
    await old.happen(3)
    for piece in in_pieces(portable(old.log.current), replace=True):
        await world.log.propose(Proposal("r", "m1", 2.0, (piece,), by="operator/a"), 1)
    await world.record.write_down()
    assert (await world.record.check()).broken is None
    content = world.file().read_bytes()
    head, _, end = content.rpartition(b"operator/a")
    world.file().write_bytes(head + b"operator/b" + end)
    again = world.open()
    await again.write_down()
    assert world.log.current.restored
    assert (await again.check()).broken is not None


async def test_an_own_run_that_turns_out_to_be_another_chain_is_set_aside(tmp_path: Path) -> None:
    world, elder = World(tmp_path / "world"), World(tmp_path / "elder")
    await world.happen(20, time=1.0)
    await world.record.write_down()
    for _ in range(3):
        await elder.happen(EVENTS_KEPT // 2)
        await elder.record.write_down()
    world.log.current = elder.log.current
    world.peers.records = (elder.record,)
    again = world.open()
    await again.write_down()
    assert len(world.aside()) == 1
    assert world.whole() == elder.whole()


async def test_another_chain_in_the_state_sets_the_files_aside(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.happen(9)
    await world.record.write_down()
    # As after a start: the replica is behind, of the same chain, and nothing is set aside.
    ahead, world.log.current = world.log.current, founded()
    await world.record.write_down()
    assert not world.aside()
    world.log.current = ahead
    other = World(tmp_path / "other")
    await other.happen(2, time=1.0)
    world.log.current = msgspec.structs.replace(other.log.current, restored="a backup's")
    await world.record.write_down()
    assert len(world.aside()) == 1
    check = await world.record.check()
    assert (check.head, check.set_aside, check.broken) == (
        other.log.current.event_head,
        1,
        None,
    )


async def test_an_end_that_was_changed_is_set_aside_and_told(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.happen(9)
    await world.record.write_down()
    content = world.file().read_bytes()
    world.file().write_bytes(
        content[:-3].replace(b"hello changed", b"hello changes") + content[-3:]
    )
    await world.happen(1)
    again = world.open()
    await again.write_down()
    (path,) = world.aside()
    check = await again.check()
    assert check.broken is not None
    assert check.broken.place == str(path)
    assert check.head == world.log.current.event_head


async def test_older_events_come_only_as_far_as_they_are_kept(tmp_path: Path) -> None:
    def filled(folder: Path, keep: EventSettings, age_seconds: float = 0.0) -> list[int]:
        files = EventFiles(folder, keep)
        events, head = [], ""
        for number in range(1, 301):
            time = 1e6 - (age_seconds if number < 300 else 0.0)
            made = Event(1, 1, time, "a.b", "x", "y" * 9000, "m1", head, number=number)
            events.append(made)
            head = event_digest(made)
        files.append(events[-1:])
        while (gaps := files.gaps()) and files.fill(events[max(0, gaps[0].last - 50) : 299]):
            pass
        assert EventFiles(folder, keep).head == head
        return [event.number for line in files.lines() if (event := event_in(line.text))]

    numbers = list(range(1, 301))
    assert filled(tmp_path / "room", EventSettings(keep_mib=9)) == numbers
    assert filled(tmp_path / "small", EventSettings(keep_mib=1)) == numbers[-101:]
    assert filled(tmp_path / "old", EventSettings(keep_days=1), 90_000.0) == numbers[-1:]


async def test_the_oldest_files_go_by_size_and_by_age(tmp_path: Path) -> None:
    def event(number: int, previous: str, time: float) -> Event:
        return Event(1, 1, time, "a.b", "x", "long " * 2000, "m1", previous, number=number)

    files = EventFiles(tmp_path, EventSettings(keep_days=1, keep_mib=9))
    head = ""
    for number in range(1, 1301):
        made = event(number, head, 1000.0)
        head = event_digest(made)
        files.append([made])
    sizes = [path.stat().st_size for path in files.files()]
    assert sum(sizes) < (9 << 20) + FILE_BYTES_MAX
    assert len(sizes) == 3
    files.append([event(1301, head, 1000.0 + 2 * 86_400)])
    assert len(files.files()) == 1


async def test_an_event_of_a_clock_that_is_years_ahead_takes_nothing_away(tmp_path: Path) -> None:
    """It is one member's word, and each of the others would have no past any more."""

    def event(number: int, previous: str, time: float) -> Event:
        return Event(1, 1, time, "a.b", "x", "long " * 2000, "m1", previous, number=number)

    files = EventFiles(tmp_path, EventSettings(keep_days=1))
    head, now = "", time.time()
    for number in range(1, 902):
        made = event(number, head, now + (10 * 365 * 86_400 if number > 900 else 0))
        head = event_digest(made)
        files.append([made])
    assert [line.number for line in files.lines()] == list(range(1, 902))
    oldest = files.files()[0]
    lacks = [event_in(line.text) for line in files.lines() if line.path == oldest]
    oldest.unlink()
    assert files.fill([one for one in lacks if one is not None]), "nor keeps it what is young out"


async def test_explain_tells_of_what_is_forgotten_and_not_of_what_never_was(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    await world.happen(1)
    stop = Proposal("s", "m1", 1.0, (StopWorkload("hello"),), by="operator/a")
    await world.log.propose(stop, 1)
    await world.record.write_down()
    story = await world.record.explain("hello")
    assert story is not None
    assert story.now == ()
    assert [event.kind for event in story.events] == ["workload.created", "workload.stopped"]
    assert await world.record.explain("nobody") is None
    member = await world.record.explain("host2")
    assert member is not None
    assert member.now == ("member host2 is alive",)


def test_a_state_of_an_earlier_version_is_no_trouble(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.log.current = ClusterState(index=1)
    asyncio.run(world.record.write_down())
    assert asyncio.run(world.record.check()).broken is None


async def test_a_disk_that_stays_full_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)
    record, tries = World(tmp_path).record, 0

    async def write_down() -> None:
        nonlocal tries
        tries += 1
        if tries not in (4, 5):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(record, "write_down", write_down)
    with capture_logs() as said:
        running = asyncio.create_task(record.run())
        await eventually(lambda: tries >= 8)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert len(said) == 2  # before there was room, and after
