"""One voter and hand-made messages from its peers."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import msgspec
import pysyncobj.serializer
import pysyncobj.syncobj
import pytest
from pysyncobj.node import Node

from sappers.config import RaftSettings
from sappers.consensus import library
from sappers.consensus.disk import LocalDisk
from sappers.errors import ConfigError, LogDamaged
from sappers.model.commands import (
    AddVoter,
    FoundCluster,
    Proposal,
    RemoveVoter,
    encode_proposal,
)
from sappers.model.observation import RaftRole
from tests.unit.raft_voter import PAYLOAD, Answers, entry, new_voter, voter
from tests.unit.raft_worlds import NewWorld, new_world

__all__ = ["new_voter", "new_world", "voter"]


def test_it_acknowledges_after_the_sync_only(voter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    voter.append(1, (1, 0), entry(2, 1))
    assert voter.wire.take("next_node_idx") == []
    order = []
    sync, send = voter.journal.sync, voter.wire.send
    monkeypatch.setattr(voter.journal, "sync", lambda: order.append("sync") or sync())
    monkeypatch.setattr(voter.wire, "send", lambda *a: order.append("ack") or send(*a))
    voter.tick_after(0.01)
    assert order[:2] == ["sync", "ack"]
    ((_, ack),) = voter.wire.take("next_node_idx")
    assert (ack["term"], ack["next_node_idx"], ack["success"]) == (1, 3, True)


def test_a_few_large_entries_are_compacted_like_many_small_ones(
    new_world: NewWorld,
) -> None:
    settings = RaftSettings(compaction_min_entries=10_000, compaction_min_bytes=4_000)
    world = new_world(seed=2, settings=settings)
    world.found()
    for _ in range(60):
        world.write()
        assert world.leader().journal.entry_bytes < 6_000
    journal = world.leader().journal
    assert journal.entry_bytes == sum(len(command) for command, _, _ in journal[:])


def test_who_asked_is_told_before_the_next_sync(voter: Any) -> None:
    term = voter.becomes_leader()
    answers = Answers()
    voter.node.propose(PAYLOAD, answers)
    voter.tick_after(0.01)
    ack = {"next_node_idx": 4, "reset": False, "success": True}
    voter.hears("a", "next_node_idx", term=term, **ack)
    voter.node.propose(PAYLOAD, Answers())
    before, told = voter.journal.syncs, []
    voter.node.tick(lambda: told.append((len(answers.heard), voter.journal.syncs - before)))
    assert told == [(1, 0)]
    assert voter.journal.syncs == before + 1


def test_one_more_answer_than_a_majority_is_no_work(voter: Any) -> None:
    assert voter.node.has_work
    term = voter.becomes_leader()
    voter.tick_after(0.01)
    assert not voter.node.has_work
    ack = {"term": term, "next_node_idx": 3, "reset": False, "success": True}
    voter.hears("a", "next_node_idx", **ack)
    assert voter.node.has_work
    voter.tick_after(0.0)
    voter.hears("b", "next_node_idx", **ack)
    assert not voter.node.has_work
    voter.hears("b", "newer_term", term=term + 1)
    assert voter.node.has_work


def test_that_more_is_committed_goes_with_the_next_entries_or_a_moment_later(voter: Any) -> None:
    term = voter.becomes_leader()
    voter.tick_after(0.01)
    ack = {"next_node_idx": 3, "reset": False, "success": True}
    voter.hears("a", "next_node_idx", term=term, **ack)
    voter.wire.sent.clear()
    voter.tick_after(0.0)
    assert voter.node.raftCommitIndex == 2
    assert voter.wire.sent == []
    voter.node.propose(PAYLOAD, Answers())
    voter.tick_after(0.0)
    assert [m["commit_index"] for _, m in voter.wire.take("append_entries")] == [2, 2]
    voter.hears("a", "next_node_idx", term=term, **ack | {"next_node_idx": 4})
    voter.tick_after(0.0)
    assert voter.node.seconds_until_due() < 0.003
    voter.tick_after(voter.node.seconds_until_due())
    assert [m["commit_index"] for _, m in voter.wire.take("append_entries")] == [3, 3]


def test_what_waits_goes_with_what_is_due_once(voter: Any) -> None:
    term = voter.becomes_leader()
    voter.tick_after(0.01)
    ack = {"next_node_idx": 3, "reset": False, "success": True}
    voter.hears("a", "next_node_idx", term=term, **ack)
    voter.tick_after(0.0)
    voter.wire.sent.clear()
    voter.node.propose(PAYLOAD, Answers())
    voter.tick_after(voter.node.seconds_until_due())  # when the commit index is due, too
    sent = voter.wire.take("append_entries")
    assert [(m["commit_index"], len(m["entries"])) for _, m in sent] == [(2, 1), (2, 1)]


def test_an_acknowledgement_dies_with_its_term(voter: Any) -> None:
    voter.append(1, (1, 0), entry(2, 1))
    voter.hears("b", "request_vote", term=2, last_log_index=9, last_log_term=1)
    voter.tick_after(0.01)
    assert voter.wire.take("next_node_idx") == []


def test_a_late_message_cuts_nothing_that_matches(voter: Any) -> None:
    voter.append(1, (1, 0), entry(2, 1), entry(3, 1), entry(4, 1))
    voter.append(1, (1, 0), entry(2, 1), commit=4)
    assert len(voter.journal) == 4
    voter.tick_after(0.01)
    assert voter.node.raftCommitIndex == 2, "beyond the message nothing is known to match"
    ((_, ack),) = voter.wire.take("next_node_idx")
    assert ack["next_node_idx"] == 3


def test_another_leaders_entry_takes_the_place_of_ours(voter: Any) -> None:
    voter.append(1, (1, 0), entry(2, 1), entry(3, 1))
    voter.append(2, (2, 1), entry(3, 2))
    assert [e[1:] for e in voter.journal[:]] == [(1, 0), (2, 1), (3, 2)]


def test_a_committed_entry_is_never_replaced(voter: Any) -> None:
    voter.append(1, (1, 0), entry(2, 1), entry(3, 1), commit=3)
    with pytest.raises(LogDamaged, match="another entry"):
        voter.append(2, (2, 1), entry(3, 2))


def test_who_asked_is_not_told_of_another_leaders_entry(voter: Any) -> None:
    term = voter.becomes_leader()
    answers = Answers()
    voter.node.propose(PAYLOAD, answers)  # index 3
    voter.tick_after(0.01)
    voter.append(term + 1, (1, 0), entry(2, term + 1), entry(3, term + 1), commit=3)
    voter.tick_after(0.01)
    assert answers.heard == [("rejected", "another leader's entry took its place")]


def test_no_acknowledgement_reaches_beyond_the_log(voter: Any) -> None:
    term = voter.becomes_leader()
    ack = {"next_node_idx": 99, "reset": False, "success": True}
    voter.hears("a", "next_node_idx", term=term, **ack)
    voter.tick_after(0.01)
    answers = Answers()
    voter.node.propose(PAYLOAD, answers)
    for _ in range(3):
        voter.tick_after(0.01)
    assert (voter.node.raftCommitIndex, answers.heard) == (2, [])


def test_each_voter_has_one_vote_and_nobody_else_any(new_voter: Any) -> None:
    voter = new_voter(("me", "a", "b", "c", "d"))
    voter.tick_after(1.0)
    for peer in ("a", "b"):
        voter.hears(peer, "pre_vote_granted", term=voter.node.raftCurrentTerm)
    voter.tick_after(0.01)
    now = voter.node.raftCurrentTerm
    for peer, term in (("a", now), ("a", now), ("stranger", now), ("c", now - 1), ("a", now)):
        voter.hears(peer, "response_vote", term=term)
        assert voter.node.status().role is RaftRole.CANDIDATE
    voter.hears("b", "response_vote", term=voter.node.raftCurrentTerm)
    assert voter.node.status().role is RaftRole.LEADER


def leads_a_cluster(voter: Any) -> int:
    """Its term; its own first entry, index 3, is not committed yet."""
    founded = Proposal("f", "me", 1.0, (FoundCluster("c", ("me", "a", "b")),))
    voter.append(1, (1, 0), (b"\0" + encode_proposal(founded), 2, 1), commit=2)
    voter.tick_after(0.01)
    return int(voter.becomes_leader())


def test_who_goes_on_alone_lacks_nothing_of_what_a_lost_leader_said_was_committed(
    voter: Any,
) -> None:
    """Nobody will ever send it: without that its agent would decide nothing any more."""
    founded = Proposal("f", "me", 1.0, (FoundCluster("c", ("me", "a", "b")),))
    voter.append(1, (1, 0), (b"\0" + encode_proposal(founded), 2, 1), commit=50)
    voter.tick_after(0.01)
    assert not voter.node.status().is_up_to_date(1)
    for peer in ("a", "b"):
        voter.wire._onNodeDisconnected(Node(peer))
    answers = Answers()
    voter.tick_after(5.0)
    voter.node.recover(encode_proposal(Proposal("r", "me", 1.0, ())), answers)
    for _ in range(100):
        voter.tick_after(0.1)
    assert [kind for kind, *_ in answers.heard] == ["done"]
    assert voter.node.status().is_up_to_date(voter.node.state.term)


def test_what_a_leader_said_is_committed_counts_while_it_is_heard(new_voter: Any) -> None:
    """One that lied, and is revoked since, is not waited for."""
    voter = new_voter(("me", "a", "b"))
    voter.append(1, (1, 0), entry(2, 1), commit=2**40)
    voter.tick_after(0.01)
    term = voter.becomes_leader()
    voter.hears("b", "next_node_idx", term=term, next_node_idx=4, reset=False, success=True)
    voter.tick_after(0.01)
    assert voter.node.status().is_up_to_date(term)


@pytest.mark.parametrize("kind", ["newer_term", "request_vote", "append_entries", "its entry"])
def test_no_voter_uses_all_terms_up(voter: Any, kind: str) -> None:
    """Once it is revoked the others must be able to go on, in later ones."""
    last = 2**64 - 1
    fields: dict[str, dict[str, Any]] = {
        "newer_term": {"term": last},
        "request_vote": {"term": last, "last_log_index": 9, "last_log_term": 9},
        "append_entries": {"term": last, "entries": []},
        "its entry": {"term": 1, "entries": [entry(2, last)]},
    }
    kind, more = kind.replace("its entry", "append_entries"), fields[kind]
    if kind == "append_entries":
        more |= {"commit_index": 1, "prevLogIdx": 1, "prevLogTerm": 0}
    with pytest.raises(ValueError, match=str(last)):  # the link ends
        voter.hears("b", kind, **more)
    term = voter.becomes_leader()
    assert term < 10
    answers = Answers()
    voter.node.propose(PAYLOAD, answers)
    voter.tick_after(0.01)
    voter.hears("a", "next_node_idx", term=term, next_node_idx=4, reset=False, success=True)
    voter.tick_after(0.01)
    assert [said for said, *_ in answers.heard] == ["done"]


def changes(voter: Any, command: AddVoter | RemoveVoter) -> Answers:
    answers = Answers()
    payload = encode_proposal(Proposal(f"{command}", "me", 1.0, (command,)))
    voter.node.change_electorate(payload, answers)
    voter.tick_after(0.01)
    return answers


def test_a_new_leader_changes_no_electorate_before_it_has_applied_what_was_there(
    voter: Any,
) -> None:
    """Else two leaders that know nothing of each other's change count majorities that miss."""
    term = leads_a_cluster(voter)
    ((outcome, reason),) = changes(voter, AddVoter("d", "")).heard
    assert (outcome, "just begun" in reason) == ("rejected", True)
    voter.hears("a", "next_node_idx", term=term, next_node_idx=4, reset=False, success=True)
    voter.tick_after(0.01)
    assert changes(voter, AddVoter("d", "")).heard == []
    assert voter.journal[-1][1:] == (4, term)


def test_no_voter_is_removed_where_those_that_remain_do_not_answer(voter: Any) -> None:
    term = leads_a_cluster(voter)
    for _ in range(4):
        voter.tick_after(0.5)
        voter.hears("b", "next_node_idx", term=term, next_node_idx=4, reset=False, success=True)
    voter.tick_after(0.01)
    ((outcome, reason),) = changes(voter, RemoveVoter("b")).heard
    assert (outcome, "no quorum" in reason) == ("rejected", True)
    assert changes(voter, RemoveVoter("a")).heard == []


def test_who_lags_behind_knows_how_far(voter: Any) -> None:
    voter.append(1, (8, 1), entry(9, 1), commit=9)
    assert voter.node.raftCommitIndex == 1, "there is a gap"
    status = voter.node.status()
    assert (status.commit_index, status.applied_index) == (9, 1)


def test_a_new_leader_is_up_to_date_once_its_own_entry_is_committed(voter: Any) -> None:
    voter.append(1, (1, 0), entry(2, 1), entry(3, 1))
    term = voter.becomes_leader()
    status = voter.node.status()
    assert (status.commit_index, status.applied_index) == (4, 1)
    ack = {"next_node_idx": 5, "reset": False, "success": True}
    voter.hears("a", "next_node_idx", term=term, **ack)
    voter.tick_after(0.01)
    status = voter.node.status()
    assert (status.commit_index, status.applied_index) == (4, 4)


def test_a_snapshot_chunk_commits_nothing(voter: Any) -> None:
    voter.append(1, (1, 0), entry(2, 1), entry(3, 1))
    voter.hears("a", "append_entries", term=1, commit_index=3, serialized=(b"x", True, False))
    assert voter.node.raftCommitIndex == 1
    (_, ack) = voter.wire.take("next_node_idx")[-1]
    assert (ack["success"], ack["reset"]) == (False, False), "it shows that it lives"


def test_who_hears_a_leader_grants_no_pre_vote(voter: Any) -> None:
    voter.append(1, (1, 0))
    wish = {"term": 1, "last_log_index": 9, "last_log_term": 9}
    voter.hears("b", "pre_vote", **wish)
    assert voter.wire.take("pre_vote_granted") == []
    voter.wire._onNodeDisconnected(Node("a"))
    voter.hears("b", "pre_vote", **wish)
    assert len(voter.wire.take("pre_vote_granted")) == 1


def test_a_leader_that_falls_silent_is_the_leader_no_more(voter: Any) -> None:
    voter.append(2, (1, 0))
    assert voter.node.status().leader_id == "a"
    voter.tick_after(1.0)
    status = voter.node.status()
    assert (status.role, status.leader_id) == (RaftRole.FOLLOWER, None)
    voter.append(2, (1, 0))
    assert voter.node.status().leader_id == "a"


def test_a_shorter_log_gets_no_pre_vote(voter: Any) -> None:
    voter.append(1, (1, 0), entry(2, 1))
    voter.clock["now"] += 5
    voter.hears("b", "pre_vote", term=1, last_log_index=1, last_log_term=0)
    assert voter.wire.take("pre_vote_granted") == []


def test_without_pre_votes_the_term_stays(voter: Any) -> None:
    for _ in range(20):
        voter.tick_after(1.0)
    assert voter.node.raftCurrentTerm == 0
    assert len(voter.wire.take("pre_vote")) == 40


def test_a_stale_leader_learns_of_the_newer_term(voter: Any) -> None:
    voter.append(5, (1, 0))
    voter.append(3, (1, 0))
    assert voter.wire.take("newer_term") == [("a", {"type": "newer_term", "term": 5})]
    term = voter.becomes_leader()
    voter.hears("b", "newer_term", term=term + 4)
    status = voter.node.status()
    assert (status.role, status.term, status.leader_id) == (RaftRole.FOLLOWER, term + 4, None)


def test_a_leader_without_answers_steps_down(voter: Any) -> None:
    voter.becomes_leader()
    answers = Answers()
    voter.node.propose(PAYLOAD, answers)
    for _ in range(20):
        voter.tick_after(0.1)
    assert voter.node.status().role is not RaftRole.LEADER
    voter.node.propose(PAYLOAD, answers)
    voter.tick_after(0.01)
    assert [kind for kind, *_ in answers.heard] == ["rejected"], "the first one is undecided"


def test_too_large_and_too_many_are_rejected(voter: Any) -> None:
    answers = Answers()
    voter.node.propose(bytes(256 * 1024 + 1), answers)
    assert answers.heard[0][0] == "rejected"
    for _ in range(10_001):
        voter.node.propose(b"x", answers)
    assert [kind for kind, *_ in answers.heard] == ["rejected", "rejected"]


def with_snapshot(new_voter: Any, tmp_path: Path) -> Any:
    voter = new_voter(("me",))
    voter.tick_after(1.0)
    for number in range(10):
        voter.node.propose(encode_proposal(Proposal(f"r{number}", "me", 1.0, ())), Answers())
        voter.tick_after(0.01)
    voter.tick_after(0.01)
    taken: list[int] = []
    voter.node.take_snapshot(taken.append)
    while not taken:
        voter.tick_after(0.01)
    for number in range(10, 15):
        voter.node.propose(encode_proposal(Proposal(f"r{number}", "me", 1.0, ())), Answers())
        voter.tick_after(0.01)
    voter.tick_after(1.0)
    voter.node.tick()
    voter.node.destroy()
    assert taken == [12]
    assert (tmp_path / "snapshot").exists()
    return voter


def test_it_starts_from_snapshot_and_journal(new_voter: Any, tmp_path: Path) -> None:
    before = with_snapshot(new_voter, tmp_path)
    assert before.journal[0][1] == 11
    after = new_voter(("me",))
    after.node.tick()
    assert after.node.state == before.node.state
    assert [e.index for e in after.applied] == [13, 14, 15, 16, 17]


def test_who_asks_for_a_snapshot_that_cannot_be_written_is_told_so(
    new_voter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk(LocalDisk):
        def replace(self, path: Path, data: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("sappers.consensus.snapshot._RETRY_SECONDS", 0.0)
    voter = new_voter(("me",))
    voter.tick_after(1.0)
    told: list[int | str] = []
    with monkeypatch.context() as patched:
        patched.setattr(voter.node._snapshots, "_disk", FullDisk())
        voter.node.take_snapshot(told.append)
        while not told:
            voter.tick_after(0.01)
    assert "No space left on device" in str(told.pop())
    voter.node.take_snapshot(told.append)
    while not told:
        voter.tick_after(0.01)
    assert told == [2]


def test_a_journal_without_its_snapshot_is_refused(new_voter: Any, tmp_path: Path) -> None:
    with_snapshot(new_voter, tmp_path)
    (tmp_path / "snapshot").unlink()
    with pytest.raises(LogDamaged, match="begins at index 11, but there is no snapshot"):
        new_voter(("me",))


def test_a_snapshot_without_its_journal_is_refused(new_voter: Any, tmp_path: Path) -> None:
    with_snapshot(new_voter, tmp_path)
    for name in ("journal", "term"):
        (tmp_path / name).unlink()
    with pytest.raises(LogDamaged, match="journal is missing"):
        new_voter(("me",))
    (tmp_path / "bound").unlink()  # of a version that noted no end of the journal
    with pytest.raises(LogDamaged, match="is empty, but the snapshot ends at 12"):
        new_voter(("me",))


def test_nothing_is_unpickled() -> None:
    for module in (pysyncobj.syncobj, pysyncobj.serializer):
        with pytest.raises(ValueError, match="pickle"):
            module.pickle.loads(b"cos\nsystem\n(S'true'\ntR.")


def test_another_version_of_the_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    library.check_library()
    monkeypatch.setitem(library._SOURCES, "node.py", "0" * 64)
    with pytest.raises(ConfigError, match=r"node\.py"):
        library.check_library()


def test_a_leader_says_whom_it_has_not_heard_and_for_how_long(voter: Any) -> None:
    assert voter.node.status().unheard == {}
    term = voter.becomes_leader()
    for _ in range(4):
        voter.clock["now"] += 1.0
        index = voter.node._last[1] + 1
        voter.hears("a", "next_node_idx", term=term, next_node_idx=index, reset=False, success=True)
    assert voter.node.status().unheard == {"b": 4}
    voter.hears("b", "next_node_idx", term=term, next_node_idx=index, reset=False, success=True)
    assert voter.node.status().unheard == {}


def test_it_tells_its_links_whom_to_refuse(voter: Any) -> None:
    assert not voter.wire.is_revoked("a")
    voter.node.state = msgspec.structs.replace(
        voter.node.state, revoked=voter.node.state.revoked.set("a", 1.0)
    )
    assert voter.wire.is_revoked("a")
