"""How old a voter says that its state is, by what it hears and when that was said."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.raft_voter import entry, new_voter, voter

__all__ = ["new_voter", "voter"]


def probe(voter: Any, *, commit: int, heard: tuple[float, float] | None, age: float = 0.0) -> None:
    voter.hears(
        "a", "probe", term=voter.node.raftCurrentTerm, at=7.0, age=age, commit_index=commit,
        heard=heard,
    )  # fmt: skip


def test_a_state_is_as_old_as_the_word_of_its_leader_may_be(voter: Any) -> None:
    assert voter.node.state_age() is None, "it has heard of nobody"
    voter.append(1, (1, 0), entry(2, 1), commit=2)
    probe(voter, commit=2, heard=None)
    ((_, answer),) = voter.wire.take("probe_answer")
    assert (answer["term"], answer["at"]) == (1, 7.0)
    voter.tick_after(3.0)
    assert voter.node.state_age() is None, "nobody knows when that was said"
    probe(voter, commit=2, heard=answer["now"], age=0.5)
    assert voter.node.state_age() == pytest.approx(3.5), "it may have been under way for 3 s"


def test_what_is_committed_and_not_applied_here_makes_no_state_new(voter: Any) -> None:
    voter.append(1, (1, 0), entry(2, 1))
    probe(voter, commit=1, heard=None)
    ((_, answer),) = voter.wire.take("probe_answer")
    probe(voter, commit=2, heard=answer["now"])
    voter.tick_after(0.1)
    assert voter.node.state_age() is None
    voter.append(1, (2, 1), commit=2)
    voter.tick_after(0.1)
    assert voter.node.state_age() == pytest.approx(0.2)


def test_a_time_that_a_process_before_this_one_told_says_nothing(voter: Any) -> None:
    voter.append(1, (1, 0))
    started, now = 1.0, 99.0  # of the same host, before it was restarted
    probe(voter, commit=1, heard=(started, now))
    assert voter.node.state_age() is None


def test_a_word_of_another_term_is_not_answered(voter: Any) -> None:
    voter.append(3, (1, 0))
    voter.hears("b", "probe", term=2, at=7.0, age=0.0, commit_index=1, heard=None)
    assert voter.wire.take("probe_answer") == []


def test_a_leader_counts_from_when_it_asked_not_from_when_it_hears_the_answer(voter: Any) -> None:
    term = voter.becomes_leader()
    voter.tick_after(0.3)
    asked = dict(voter.wire.take("probe"))
    assert set(asked) == {"a", "b"}
    assert asked["a"]["age"] is None, "its first entry is not committed"
    ack = {"next_node_idx": 3, "reset": False, "success": True}
    voter.hears("a", "next_node_idx", term=term, **ack)
    voter.tick_after(1.0)  # it stands still
    answer = {"at": asked["a"]["at"], "now": (1.0, 2.0)}
    voter.hears("a", "probe_answer", term=term - 1, **answer)
    assert voter.node.state_age() is None, "an answer of another term"
    voter.hears("a", "probe_answer", term=term, **answer)
    assert voter.node.state_age() == pytest.approx(1.0)
    voter.wire.sent.clear()
    voter.tick_after(0.3)
    asked = dict(voter.wire.take("probe"))
    assert asked["a"]["age"] == pytest.approx(1.3)
    assert [asked[one]["heard"] for one in "ab"] == [(1.0, 2.0), None]


def test_a_voter_of_an_older_version_is_not_asked(voter: Any) -> None:
    voter.wire.peers.discard("b")
    voter.becomes_leader()
    voter.tick_after(0.3)
    assert [node for node, _ in voter.wire.take("probe")] == ["a"]


def test_alone_a_leaders_state_is_new(new_voter: Any) -> None:
    alone = new_voter(("me",))
    for _ in range(3):
        alone.tick_after(1.0)
    assert alone.node.state_age() == pytest.approx(0.0)


def test_no_answer_makes_a_leaders_state_new_before_its_first_entry_is_applied(voter: Any) -> None:
    """What was committed before it led may be newer than what it has applied."""
    term = voter.becomes_leader()
    voter.tick_after(0.3)
    asked = dict(voter.wire.take("probe"))
    voter.hears("a", "probe_answer", term=term, at=asked["a"]["at"], now=(1.0, 2.0))
    assert voter.node.state_age() is None
    voter.hears("a", "next_node_idx", term=term, next_node_idx=3, reset=False, success=True)
    voter.tick_after(0.1)
    assert voter.node.state_age() == pytest.approx(0.1)
