"""When a cluster counts as formed, and what is said until then."""

from __future__ import annotations

import msgspec

from sappers.errors import NoQuorum
from sappers.model.view import MemberHealth
from sappers.provisioner.bootstrap.cluster_probe import find_missing
from sappers.provisioner.bootstrap.forming import cluster_results
from sappers.provisioner.bootstrap.recap import Outcome


def well(name: str, **changes) -> MemberHealth:
    health = MemberHealth(
        member_id=f"{name}-1",
        name=name,
        version="0.1.0",
        cluster_id="c1",
        role="follower",
        term=1,
        leader_id="a-1",
        commit_index=7,
        applied_index=7,
        hub="running",
        hub_connected=True,
    )
    return msgspec.structs.replace(health, **changes)


def missing(*answers: MemberHealth, settled_index: int = 7, **silent: str) -> str:
    return "; ".join(
        find_missing({a.name: a for a in answers} | silent, settled_index=settled_index)
    )


def test_nothing_is_missing():
    assert missing(well("a"), well("b"), well("c", hub="-")) == ""


def test_each_lack_is_said():
    assert missing(well("a"), b="nothing listens") == "b does not answer: nothing listens"
    assert missing(well("a"), well("b", cluster_id="")) == "b has not joined a cluster"
    assert "2 clusters" in missing(well("a"), well("b", cluster_id="c2"))
    assert missing(well("a"), well("b", leader_id=None)) == "b has no leader"
    assert "2 leaders" in missing(well("a"), well("b", leader_id="b-1"))
    assert missing(well("a"), well("b", hub="down")) == "the hub is down on b"
    assert missing(well("a", hub="-"), well("b", hub="-")) == "the hub runs nowhere yet"
    assert missing(well("a"), well("b", hub_connected=False)) == "b has no connection to the hub"
    assert missing(well("a"), well("b", applied_index=6)) == "b has not reached index 7"


def test_a_busy_cluster_is_formed_once_all_reached_an_earlier_index():
    assert missing(well("a", commit_index=90, applied_index=90), well("b")) == ""


def test_no_leader_anywhere_is_no_quorum():
    answers = {"a": well("a", leader_id=None), "b": "nothing listens"}
    results, error = cluster_results(answers, ("b does not answer",), 20.0)
    assert isinstance(error, NoQuorum)
    assert {r.outcome for r in results.values()} == {Outcome.FAILED}


def test_a_silent_agent_is_its_hosts_problem():
    results, error = cluster_results({"a": well("a"), "b": "it broke off"}, ("b …",), 20.0)
    assert error is None
    assert "it broke off" in results["b"].errors[0].message


def test_formed():
    results, error = cluster_results({"a": well("a")}, (), 1.0)
    assert (results["a"].outcome, error) == (Outcome.OK, None)
