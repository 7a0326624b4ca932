"""The record of events, backup and restore, with whole agents."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sappers.api.image_calls import ImageCalls
from sappers.api.wire import WantedImage, WantedWorkload
from sappers.cli.backup import gather_record
from sappers.cli.backup_file import open_backup, write_backup
from sappers.cli.restore import give_record
from sappers.decisions.backup import in_pieces, portable
from sappers.decisions.event_chain import broken_in
from sappers.errors import ApiError, BackupError
from sappers.model.backup import BACKUP_FORMAT, Backup, TakenState
from sappers.model.cluster_state import EVENTS_KEPT, ClusterState
from sappers.model.codec import decode_state, encode_state
from sappers.model.commands import PutWorkload
from sappers.model.event import Event, EventFilter, event_in
from tests.image_stores import make_store, put_image
from tests.integration.agents import WHOLE_SECONDS, Agents
from tests.loopback import own_network
from tests.unit.worlds import commit, founded, workload
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    with Agents(tmp_path / "old", ["n1", "n2", "n3"]) as cluster:
        yield cluster


def recorded(cluster: Agents) -> bool:
    """Every member has written down all that happened."""
    checks = [cluster.client.check_events_at(cluster.at(name)) for name in cluster.names]
    return len({(one.last, one.head, one.state_count) for one in checks}) == 1 and all(
        one.last == one.state_count for one in checks
    )


def run_workload(cluster: Agents) -> None:
    """One whose image has no chunks: it is placed, and waits."""
    store = make_store(cluster.folder / "control")
    digest = put_image(store, "empty")
    signed = store.signed(digest)
    assert signed is not None
    ImageCalls(cluster.client).put(digest, signed)
    cluster.client.put_workload("web", WantedWorkload(WantedImage("empty", digest), count=1))


def is_placed(cluster: Agents) -> bool:
    found = cluster.client.allocations().allocations
    return any(one.workload == "web" and one.wanted for one in found)


def overwrite(path: Path, place: int, content: bytes) -> None:
    """In place: the member goes on writing to the file's end."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


def test_the_record_outlives_a_kill_and_the_backup_the_cluster(
    agents: Agents, tmp_path: Path
) -> None:
    wait_until("three members on one index with a hub", agents.is_whole, WHOLE_SECONDS)
    run_workload(agents)
    wait_until("all is written down", lambda: recorded(agents))
    view = agents.view()
    assert view is not None
    assert view.leader_id is not None
    leader = view.leader_id
    agents.kill(leader)
    agents.insist("another leads", lambda: agents.client.uncordon(leader))
    agents.client.delete_workload("web")
    run_workload(agents)
    wait_until("it is placed anew", lambda: is_placed(agents))
    agents.start(leader)
    wait_until(
        "the killed member has caught up",
        lambda: agents.is_whole() and recorded(agents),
        WHOLE_SECONDS,
    )

    story = agents.client.explain("web")
    kinds = [event.kind for event in story.events]
    assert kinds[0] == "workload.created"
    assert story.events[0].by == "operator/operator"
    placed = next(event for event in story.events if event.kind == "allocation.placed")
    assert story.events[0].number == placed.cause

    # A byte in one member's file is found, and where it is.
    (path,) = (agents.folder / "n2" / "events").glob("*.jsonl")
    right = path.read_bytes()
    place = right.index(b"web created")
    overwrite(path, place, b"web creates")
    row = right[:place].count(b"\n") + 1
    broken = agents.client.check_events_at(agents.at("n2")).broken
    assert broken is not None
    assert (broken.number, broken.place) == (row, f"{path} line {row}")
    assert agents.client.check_events_at(agents.at("n1")).broken is None
    overwrite(path, place, b"web created")

    taken = agents.client.take_backup()
    old = decode_state(taken.state)
    wait_until("what the backup has is written down", lambda: recorded(agents))
    events = agents.client.events(limit=1000, wanted=EventFilter(first=1)).events
    assert broken_in(events[: old.event_count], old) is None
    assert set(old.workloads) == {"web"}
    assert (old.repair_key, len(taken.manifests)) == (None, 1)

    other = Agents(tmp_path / "new", ["only"], bootstrap=1, network=own_network(1))
    other.start()
    try:
        wait_until("another cluster", lambda: other.is_whole() and recorded(other), WHOLE_SECONDS)
        for piece in in_pieces(old, replace=False):
            other.client.give_piece(piece)
        now = other.view()
        assert now is not None
        assert now.cluster_id != view.cluster_id
        assert [one.name for one in now.workloads] == ["web"]
        wait_until("its guest is placed anew", lambda: bool(other.client.allocations().allocations))
        wait_until("the restored chain is written down", lambda: recorded(other))
        check = other.client.check_events_at(other.at("only"))
        assert check.broken is None
        assert check.set_aside == 1
        first = other.client.events(limit=1, wanted=EventFilter(first=old.event_count + 1)).events
        assert (first[0].kind, first[0].previous) == ("cluster.restored", old.event_head)
        for piece in in_pieces(old, replace=False):
            other.client.give_piece(piece)  # the same backup: nothing changes
        other.client.delete_workload("web")
        run_workload(other)
        with pytest.raises(ApiError, match="it runs web"):  # now it would
            other.client.give_piece(in_pieces(old, replace=False)[0])
        agents.client.delete_workload("web")
        changed = decode_state(agents.client.take_backup().state)
        with pytest.raises(ApiError, match="it runs web"):
            other.client.give_piece(in_pieces(changed, replace=False)[0])
    finally:
        other.close()
        asyncio.run(other.sweep())
    a_long_record_comes_back_as_a_whole(agents, tmp_path / "long.backup")


def a_long_record_comes_back_as_a_whole(agents: Agents, path: Path) -> None:
    """All that a backup has, on each member; and a backup has what any member has."""
    old, events = long_chain(3 * EVENTS_KEPT + 500)
    write_backup(path, Backup(BACKUP_FORMAT, 1.0, "test", taken_of(old)), events)
    for piece in in_pieces(old, replace=True):
        agents.client.give_piece(piece)
    with open_backup(path) as saved:
        assert give_record(agents.client, saved.record, old) == []
    wait_until("the restored chain is written down", lambda: recorded(agents))
    for name in agents.names:
        check = agents.client.check_events_at(agents.at(name))
        assert (check.first, check.missing, check.broken) == (1, (), None)
    with open_backup(path) as saved:
        assert give_record(agents.client, saved.record, old) == []  # it is repeated

    lowest, following, *_ = files_of(agents, "n1")
    last = int(following.stem) - 1
    state = decode_state(agents.client.take_backup().state)
    lowest.unlink()
    assert agents.client.check_events_at(agents.at("n1")).first == last + 1
    found = list(gather_record(agents.client_at("n1"), state))
    assert [event.number for event in found] == list(range(1, state.event_count + 1))

    # Nobody has what lies in the middle, and what else is in the files that it lies in.
    middle = old.event_count // 2
    for name in agents.names:
        next(path for path in reversed(files_of(agents, name)) if int(path.stem) <= middle).unlink()
    had = {event.number for name in agents.names for event in written(agents, name)}
    had |= {event.number for event in state.events}
    had = {number for number in had if number <= state.event_count}
    assert 1 in had
    assert middle not in had
    found = list(gather_record(agents.client_at("n1"), state))
    assert [event.number for event in found] == sorted(had)
    write_backup(path, Backup(BACKUP_FORMAT, 1.0, "test", taken_of(state)), found)
    with open_backup(path) as saved:
        assert list(saved.record) == found

    changed = next(path for path in files_of(agents, "n2") if b"hello changed" in path.read_bytes())
    overwrite(changed, changed.read_bytes().index(b"hello changed"), b"hello changes")
    with pytest.raises(BackupError, match="record of n2 is not as it was: event"):
        list(gather_record(agents.client_at("n1"), state))


def files_of(cluster: Agents, name: str) -> list[Path]:
    """A member's, oldest first; members take older events from one another, so each has its own."""
    return sorted((cluster.folder / name / "events").glob("*.jsonl"))


def written(cluster: Agents, name: str) -> list[Event]:
    lines = (line for path in files_of(cluster, name) for line in path.read_bytes().splitlines())
    return [event for line in lines if (event := event_in(line))]


def taken_of(state: ClusterState) -> TakenState:
    return TakenState(state.index, encode_state(state), ())


def long_chain(count: int) -> tuple[ClusterState, tuple[Event, ...]]:
    """What a backup of a cluster has that lived for long."""
    state, events = founded(), list(founded().events)
    while state.event_count < count:
        change = PutWorkload(workload(count=state.index % 7 + 1))
        state, outcome = commit(state, change, time=time.time())
        events += outcome.events
    return portable(state), tuple(events)
