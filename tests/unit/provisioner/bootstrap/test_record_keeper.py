"""Who is which member is on record before a host is one, and an id has one name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sappers.model.view import MemberHealth
from sappers.provisioner.bootstrap.phases.play import membership
from sappers.provisioner.bootstrap.plan import ClusterPlan, PlannedMember
from sappers.provisioner.bootstrap.record_keeper import RecordKeeper
from sappers.provisioner.bootstrap.settled import Settled
from sappers.provisioner.control.record import load_record

PLAN = ClusterPlan("lab", tuple(PlannedMember(name, "10.0.0.1", False) for name in "ab"))


def host(name: str, node_id: str, *, check: bool = False) -> Any:
    return SimpleNamespace(
        name=name, member=PLAN.members[0], settled=Settled(node_id), check=check, node_id=""
    )


def keeper(folder: Path) -> RecordKeeper:
    return RecordKeeper(folder, PLAN, Path("hosts.ini"))


def test_members_are_kept_in_the_order_of_the_inventory(tmp_path):
    for name in "cba":
        keeper(tmp_path).remember(host(name, f"{name}-1"))
    assert [one.name for one in load_record(tmp_path).members] == ["a", "b", "c"]
    assert keeper(tmp_path).owners() == {"a-1": "a", "b-1": "b", "c-1": "c"}


def test_an_id_is_the_last_hosts_that_had_it_and_a_host_has_one(tmp_path):
    """Or a new host under the old name of a renamed one could have the other's id."""
    for name, node_id in (("c", "c-1"), ("a", "c-1"), ("b", "b-1"), ("b", "b-2")):
        keeper(tmp_path).remember(host(name, node_id))
    assert keeper(tmp_path).owners() == {"c-1": "a", "b-2": "b"}


def test_a_host_is_on_record_before_it_is_made_a_member(tmp_path, monkeypatch):
    monkeypatch.setattr("sappers.provisioner.bootstrap.phases.play.repair_login_of", lambda _: None)
    run = keeper(tmp_path)
    with membership(run.remember)(host("a", "a-1", check=True)):
        assert run.owners() == {}
    with membership(run.remember)(host("a", "a-1")):
        assert run.owners() == {"a-1": "a"}


def test_a_run_that_changes_nothing_writes_nothing(tmp_path):
    run = keeper(tmp_path)
    assert not run.conclude({})
    assert list(tmp_path.iterdir()) == []
    run.remember(host("a", "a-1"))
    health = MemberHealth("a-1", "a", "v", "c1", "follower", 4, "b-1", 9, 9, "-", True)
    assert run.conclude({"b": "no answer", "a": health})
    record, written = load_record(tmp_path), (tmp_path / "cluster.json").stat().st_mtime_ns
    assert (record.cluster_id, record.inventory) == ("c1", str(Path("hosts.ini").absolute()))
    run.remember(host("a", "a-1"))
    run.conclude({})
    assert load_record(tmp_path) == record
    assert (tmp_path / "cluster.json").stat().st_mtime_ns == written
