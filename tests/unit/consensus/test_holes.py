"""What pysyncobj leaves open, each hole twice: with the mend, and with the mend switched off.

docs/consensus.md has the table. A test that fails without its mend shows that it would notice.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from sappers.config import RaftSettings
from sappers.consensus import layer, reconfiguration, replica, snapshot
from sappers.consensus.acknowledgement import Acknowledging
from sappers.consensus.configuration import Configuration
from sappers.consensus.journal import Journal, _TermAndVote
from sappers.consensus.layer import RaftNode
from sappers.consensus.pre_vote import PreVoting
from sappers.consensus.snapshot import _NOT_SERIALIZING, _SUCCESS, SnapshotStore
from sappers.errors import LogDamaged
from sappers.model.commands import AddVoter, Entry, RemoveVoter
from sappers.model.observation import RaftRole
from tests.simulation.disk import PowerLost, SimulatedDisk
from tests.unit import raft_worlds
from tests.unit.raft_voter import PAYLOAD, Answers, entry, new_voter, voter
from tests.unit.raft_worlds import NewWorld, World, new_world
from tests.unit.switched_off import mended, without

__all__ = ["mended", "new_voter", "new_world", "voter", "without"]

# 1, 2, 9: what is acknowledged is on disk


def test_power_loss_of_all_loses_nothing(
    new_world: NewWorld, mended: bool, without: Callable[..., None]
) -> None:
    world = new_world(seed=3)
    world.found()
    without(Journal, "sync", lambda _: False)
    names: list[str] = []
    for _ in range(4):
        names += [world.write() for _ in range(9)]  # a snapshot is due every 15 entries
        for one in world.voters:
            world.crash(one)
        world.settle()
    kept = set(names) <= set(world.running["v0"].node.state.workloads)
    assert kept is mended


def test_a_vote_is_remembered(
    voter: Any, new_voter: Any, mended: bool, without: Callable[..., None]
) -> None:
    def in_memory(journal: Any, term: int, voted_for: str | None) -> None:
        journal._term = _TermAndVote(term, voted_for)

    without(Journal, "setCurrentTerm", in_memory)
    wish = {"term": 5, "last_log_index": 9, "last_log_term": 4}
    voter.hears("a", "request_vote", **wish)
    assert len(voter.wire.take("response_vote")) == 1
    again = new_voter()
    again.hears("b", "request_vote", **wish)
    assert (again.wire.take("response_vote") == []) is mended, "two voted for in one term"


@pytest.mark.parametrize("damage", ["missing", "empty", "flipped"])
def test_a_vote_that_cannot_be_read_is_refused_not_forgotten(
    voter: Any,
    new_voter: Any,
    tmp_path: Path,
    mended: bool,
    without: Callable[..., None],
    damage: str,
) -> None:
    wish = {"term": 5, "last_log_index": 9, "last_log_term": 4}
    voter.hears("a", "request_vote", **wish)
    assert len(voter.wire.take("response_vote")) == 1
    term = tmp_path / "term"
    content = term.read_bytes()
    term.unlink()
    if damage != "missing":
        term.write_bytes(b"" if damage == "empty" else content[:-2] + b"!" + content[-1:])
    without(Journal, "_load_term", lambda _: _TermAndVote())
    with pytest.raises(LogDamaged, match=r"/term ") if mended else nullcontext():
        again = new_voter()
        again.hears("b", "request_vote", **wish)
        assert len(again.wire.take("response_vote")) == 1, "two voted for in one term"


def test_the_sync_comes_before_the_acknowledgement(
    voter: Any, mended: bool, without: Callable[..., None]
) -> None:
    answer = Acknowledging._SyncObj__sendNextNodeIdx

    def at_once(node: Any, *args: Any, **kwargs: Any) -> None:
        answer(node, *args, **kwargs)
        for peer, ack in node._acks.items():
            node._links.send(peer, ack)

    without(Acknowledging, "_SyncObj__sendNextNodeIdx", at_once)
    before = voter.journal.syncs
    voter.append(1, (1, 0), entry(2, 1))
    told_unsynced = bool(voter.wire.take("next_node_idx")) and voter.journal.syncs == before
    assert told_unsynced is not mended


# 3, 4: nobody acknowledges what it does not have


def test_an_isolated_leader_that_catches_up_by_snapshot_says_nothing_false(
    voter: Any, mended: bool, without: Callable[..., None]
) -> None:
    term = voter.becomes_leader()
    answers = Answers()
    voter.node.propose(PAYLOAD, answers)  # index 3, on this voter alone
    voter.tick_after(0.01)
    without(Acknowledging, "_keep_what_matches", lambda *_: None)
    part = {"commit_index": 3, "serialized": (b"x", True, False)}
    voter.hears("a", "append_entries", term=term + 1, **part)
    voter.tick_after(0.01)
    assert (answers.heard == []) is mended
    if not mended:
        assert answers.heard[0][0] == "done", "acknowledged, and nowhere else"


def test_an_acknowledgement_counts_in_its_term_alone(
    voter: Any, mended: bool, without: Callable[..., None]
) -> None:
    receive = RaftNode._SyncObj__onMessageReceived

    def any_term(node: Any, peer: Any, message: dict[str, Any]) -> None:
        receive(node, peer, {**message, "term": node.raftCurrentTerm})

    term = voter.becomes_leader()
    answers = Answers()
    voter.node.propose(PAYLOAD, answers)
    voter.tick_after(0.01)
    without(RaftNode, "_SyncObj__onMessageReceived", any_term)
    voter.node._SyncObj__transport.setOnMessageReceivedCallback(
        voter.node._SyncObj__onMessageReceived
    )
    ack = {"next_node_idx": 4, "reset": False, "success": True}
    voter.hears("a", "next_node_idx", term=term - 1, **ack)
    voter.tick_after(0.01)
    assert (answers.heard == []) is mended
    voter.hears("a", "next_node_idx", term=term, **ack)
    voter.tick_after(0.01)
    assert answers.heard == [("done", 3, term, "")]
    assert [one.index for one in voter.applied] == [2, 3]


def test_a_late_message_cuts_nothing_that_was_acknowledged(
    voter: Any, mended: bool, without: Callable[..., None]
) -> None:
    voter.append(1, (1, 0), entry(2, 1), entry(3, 1), entry(4, 1))
    without(Acknowledging, "_keep_what_matches", lambda *_: None)
    voter.append(1, (1, 0), entry(2, 1))
    assert (len(voter.journal) == 4) is mended


# 5: a leader that is cut off


def test_the_minority_yields_and_confirms_no_read(new_world: NewWorld, mended: bool) -> None:
    slow = RaftSettings(leader_fallback_seconds=30.0)
    world = new_world(seed=5, settings=raft_worlds.SETTINGS if mended else slow)
    world.found()
    old = world.leader()
    for other in world.voters:
        if other != old.me:
            world.network.set_link(old.me, other, up=False)
    read = world.propose(old)  # a linearizable read is an entry, too
    for _ in range(300):
        world.step()
    assert world.answers[read].outcome != "done"
    assert (old.node.status().role is RaftRole.LEADER) is not mended
    assert [one for one in world.leaders_now() if one is not old], "the others go on"


# Elections


def test_who_was_cut_off_unseats_nobody(
    new_world: NewWorld, mended: bool, without: Callable[..., None]
) -> None:
    world = new_world(seed=6)
    world.found()
    without(PreVoting, "_begin_election_if_due", lambda _: None)  # the library's own elections
    leader = world.leader()
    term = leader.node.status().term
    lonely = next(one for one in world.voters if one != leader.me)
    for other in world.voters:
        if other != lonely:
            world.network.set_link(lonely, other, up=False)
    # The library begins no election without any link; one that delivers nothing is enough.
    silent = next(one for one in world.voters if one not in (lonely, leader.me))
    world.running[lonely].node._SyncObj__connectedNodes.add(raft_worlds.pysyncobj.node.Node(silent))
    for _ in range(500):
        world.step()
    world.network.cut.clear()
    for _ in range(300):
        world.step()
    assert (world.leader().node.status().term == term) is mended


def test_a_killed_leader_is_succeeded_within_two_seconds_twenty_times(
    new_world: NewWorld, mended: bool, without: Callable[..., None]
) -> None:
    library = Acknowledging._SyncObj__onNodeDisconnected  # type: ignore[attr-defined]
    without(PreVoting, "_SyncObj__onNodeDisconnected", library)  # it waits for the leader
    outages = []
    for seed in range(20):
        world = new_world(seed=seed)
        leader = world.leader()
        for _ in range(300):  # idle for longer than `connection_timeout`
            world.step()
        since = world.now
        world.crash(leader.me)
        world.write()
        outages.append(world.now - since)
        for one in list(world.running):
            world.crash(one)
        for path in world.folder.glob("*/*"):
            path.unlink()
    assert len(outages) == 20
    assert max(outages) < 2.0
    soon = raft_worlds.SETTINGS.election_timeout_min_seconds
    assert (statistics.median(outages) < soon) is mended


# 6: membership


def test_of_three_changes_at_once_one_takes_effect(
    new_world: NewWorld, mended: bool, without: Callable[..., None]
) -> None:
    world = new_world(seed=7)
    world.found()
    without(reconfiguration.Reconfiguring, "_objection_to", lambda *_: "")
    leader = world.leader()
    answers = [world.change(AddVoter(f"v{number}", ""), leader) for number in (3, 4, 5)]
    for _ in range(100):
        world.step()
    done = [answer.outcome for answer in answers].count("done")
    assert (done, len(leader.node.state.electorate)) == ((1, 4) if mended else (3, 6))


def test_who_was_removed_while_it_was_away_is_told(
    new_world: NewWorld, mended: bool, without: Callable[..., None]
) -> None:
    world = new_world(seed=8)
    world.found()
    without(reconfiguration.Reconfiguring, "_consider_farewell", lambda *_: None)
    gone = next(one for one in world.voters if one != world.leader().me)
    for other in world.voters:
        if other != gone:
            world.network.set_link(gone, other, up=False)
    world.remove(gone)
    world.network.cut.clear()
    for _ in range(300):
        world.step()
    assert (gone not in world.running) is mended


def test_an_old_list_of_voters_misleads_nobody(
    new_world: NewWorld, mended: bool, without: Callable[..., None]
) -> None:
    """A voter comes back whose first list is older than the electorate."""
    world = new_world(seed=9)
    world.found()

    def first_list(genesis: Any, *_: Any) -> Configuration:
        return Configuration(tuple(sorted(genesis.voters)), genesis.given_at)

    sleeper = next(one for one in world.voters if one != world.leader().me)
    world.crash(sleeper)
    world.add("v3")
    world.remove(next(one for one in world.voters if one not in (sleeper, world.leader().me)))
    for _ in range(20):
        world.write()
    without(layer, "configuration_now", first_list)
    without(reconfiguration, "configuration_now", first_list)
    world.start(sleeper)
    for _ in range(300):
        world.step()
    electorate = world.leaders_now()[0].node.state.electorate
    assert (world.running[sleeper].node.status().electorate == electorate) is mended


def test_a_leader_does_not_remove_itself(
    new_world: NewWorld, mended: bool, without: Callable[..., None]
) -> None:
    world = new_world(seed=10)
    world.found()
    without(reconfiguration.Reconfiguring, "_objection_to", lambda *_: "")
    leader = world.leader()
    answer = world.change(RemoveVoter(leader.me), leader)
    for _ in range(20):
        world.step()
    assert (answer.outcome == "rejected" and leader.me in world.running) is mended


# 7: what must not stop the log


def test_a_poison_command_stops_nothing(
    new_voter: Any, mended: bool, without: Callable[..., None]
) -> None:
    voter = new_voter(("me",))
    apply = replica.apply

    def raises(state: Any, one: Entry) -> Any:
        if one.payload == b"poison":
            raise RuntimeError("poison")
        return apply(state, one)

    without(layer, "apply_safely", raises)
    answers = Answers()
    voter.tick_after(1.0)
    with patch.object(replica, "apply", raises):
        for payload in (b"poison", b"no proposal", PAYLOAD):
            voter.node.propose(payload, answers)
        with nullcontext() if mended else pytest.raises(RuntimeError, match="poison"):
            for _ in range(3):
                voter.tick_after(0.01)
    assert (len(answers.heard) == 3) is mended
    if mended:
        poison, nonsense, good = (refused for _, _, _, refused in answers.heard)
        assert "state machine failed" in poison
        assert "no proposal" in nonsense
        assert (good, voter.node.state.index) == ("", 5)


def test_a_callback_that_raises_stops_nothing_and_repeats_nothing(
    new_voter: Any, mended: bool, without: Callable[..., None]
) -> None:
    voter = new_voter(("me",))
    without(RaftNode, "_tell", lambda _, hear, *what: hear(*what))

    class Broken(Answers):
        def done(self, *what: Any) -> None:
            super().done(*what)
            raise RuntimeError("callback")

    answers, later = Broken(), Answers()
    voter.tick_after(1.0)
    voter.node.propose(PAYLOAD, answers)
    voter.node.propose(PAYLOAD, later)
    with nullcontext() if mended else pytest.raises(RuntimeError, match="callback"):
        for _ in range(3):
            voter.tick_after(0.01)
    assert (len(later.heard) == 1) is mended
    assert [one.index for one in voter.applied] == sorted({one.index for one in voter.applied})


# 8: files


def test_a_bad_entry_in_the_middle_is_refused_not_cut(
    tmp_path: Path, mended: bool, without: Callable[..., None]
) -> None:
    journal = Journal(tmp_path)
    for index in range(1, 21):
        journal.add(b"\0" + bytes(50), index, 1)
        journal.sync()
    journal._destroy()
    data = bytearray((tmp_path / "journal").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "journal").write_bytes(data)

    without(Journal, "_check_tail", lambda *_: None)
    with pytest.raises(LogDamaged, match="checksum") if mended else nullcontext():
        assert len(Journal(tmp_path)) < 20, "what was acknowledged is gone"


@pytest.mark.parametrize("zeros", [0, 1000])
def test_a_journal_that_was_cut_short_is_refused(
    tmp_path: Path, mended: bool, without: Callable[..., None], zeros: int
) -> None:
    journal = Journal(tmp_path)
    for index in range(1, 21):
        journal.add(b"\0" + bytes(50), index, 1)
        journal.sync()
    journal.setRaftCommitIndex(20)
    journal._destroy()
    data = (tmp_path / "journal").read_bytes()
    end_of_a_record = data.rindex(b"\xf5Jr\x01", 0, len(data) // 2)
    (tmp_path / "journal").write_bytes(data[:end_of_a_record] + bytes(zeros))
    without(Journal, "_load_bound", lambda _: None)
    with (
        pytest.raises(LogDamaged, match="entry 20 of term 1 was committed")
        if mended
        else nullcontext()
    ):
        assert len(Journal(tmp_path)) < 20, "what was acknowledged is gone"


def test_a_damaged_snapshot_is_refused_not_served_empty(
    tmp_path: Path, new_voter: Any, mended: bool, without: Callable[..., None]
) -> None:
    voter = new_voter(("me",))
    voter.tick_after(1.0)
    for _ in range(3):
        voter.node.propose(PAYLOAD, Answers())
        voter.tick_after(0.01)
    taken: list[int] = []
    voter.node.take_snapshot(taken.append)
    while not taken:
        voter.tick_after(0.01)
    voter.node.destroy()
    (tmp_path / "snapshot").write_bytes(b"")
    without(snapshot, "read_snapshot", lambda *_: None)  # as if there were none
    without(layer, "join", lambda *_: None)
    with pytest.raises(LogDamaged, match="snapshot") if mended else nullcontext():
        again = new_voter(("me",))
        again.tick_after(1.0)
        assert not again.node.state.requests, "serves, and knows nothing"


def test_killed_while_a_snapshot_is_written_it_has_all_that_was_acknowledged(
    tmp_path: Path, new_voter: Any, mended: bool, without: Callable[..., None]
) -> None:
    """The library trims the journal to a dump that is not there yet, and then begins anew."""

    def taken_for_written(store: SnapshotStore) -> tuple[int, int | None]:
        if store._writer is None:
            return _NOT_SERIALIZING, None
        store._writer = None
        return _SUCCESS, store._id

    voter = new_voter(("me",))
    voter.node._snapshots._in_background = lambda _: Unfinished()
    without(SnapshotStore, "checkSerializing", taken_for_written)
    without(layer, "join", lambda *_: None)
    voter.tick_after(1.0)
    answers = Answers()
    for _ in range(9):
        voter.node.propose(PAYLOAD, answers)
        voter.tick_after(0.01)
    acknowledged = max(index for _, index, *_ in answers.heard)
    voter.node.take_snapshot(lambda _: None)
    for _ in range(3):
        voter.tick_after(0.01)
    assert not (tmp_path / "snapshot").exists()
    again = new_voter(("me",))
    first = again.journal[0][1]
    assert (first == 1 and again.journal[-1][1] >= acknowledged) is mended


class Unfinished:
    """The writer of a snapshot that is killed before it is done."""

    def is_alive(self) -> bool:
        return True


def test_a_trim_that_a_power_loss_cuts_short_loses_nothing(
    mended: bool, without: Callable[..., None]
) -> None:
    """The library clears the file and writes it anew, in its place."""

    def in_place(disk: SimulatedDisk, path: Path, data: bytes) -> None:
        disk._stored(path).data[:] = disk._stored(path).on_disk[:] = b""
        disk.check_health()

    disk, folder = SimulatedDisk(random.Random(1)), Path("/raft")
    journal = Journal(folder, disk)
    for index in range(1, 21):
        journal.add(b"\0" + bytes(50), index, 1)
    journal.sync()
    without(SimulatedDisk, "replace", in_place)
    disk.dies_in = 1
    with pytest.raises(PowerLost):
        journal.deleteEntriesTo(10)
    disk.lose_power()
    with nullcontext() if mended else pytest.raises(LogDamaged):
        assert len(Journal(folder, disk)) == 20


# 12: a snapshot stops nothing


def test_a_snapshot_starts_no_election(new_world: NewWorld, mended: bool) -> None:
    world = new_world(seed=12)
    world.found()
    world.write()
    leader = world.leader()
    term = leader.node.status().term
    if not mended:  # it is written by the one thread that there is, which takes 1.5 s
        leader.node._snapshots.__class__ = blocking(world)
    taken: list[int] = []
    leader.node.take_snapshot(taken.append)
    for _ in range(200):
        world.step()
    assert taken
    assert (world.leader().node.status().term == term) is mended


def blocking(world: World) -> type:
    class Blocking(raft_worlds.PatientStore):
        def serialize(self, data: Any, id: int) -> None:
            super().serialize(data, id)
            for _ in range(150):
                world.now += 0.01
                for other in world.running.values():
                    if other.node._snapshots is not self:
                        other.node.tick()
                world.network.deliver()

    return Blocking
