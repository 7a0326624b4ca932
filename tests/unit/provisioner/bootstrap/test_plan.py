"""The inventory as a cluster: names, addresses, voters, images; what cannot be is said per host."""

from __future__ import annotations

from pathlib import Path

import pytest

from sappers.errors import InventoryError
from sappers.model.policy import EventSettings, ImageSettings
from sappers.provisioner.bootstrap.packages import packages_for
from sappers.provisioner.bootstrap.plan import ClusterPlan, plan_cluster
from sappers.provisioner.connection.ssh_config import host_name, read_ssh_config
from sappers.provisioner.inventory.inventory import load_inventory


def planned(folder: Path, text: str, name: str = "lab.ini") -> ClusterPlan:
    path = folder / name
    path.write_text(text)
    return plan_cluster(load_inventory(path), resolve)


def resolve(name: str) -> str:
    if name == "nowhere":
        raise OSError("Name or service not known")
    return {"named": "10.0.0.9"}.get(name, name)


def test_named_after_the_file_or_the_variable(tmp_path):
    assert planned(tmp_path, "a ansible_host=10.0.0.1\n", "My Lab.ini").name == "my-lab"
    text = "a ansible_host=10.0.0.1\n[all:vars]\nsappers_cluster=green\n"
    assert planned(tmp_path, text).name == "green"


def test_voters_by_group_or_variable_and_zone(tmp_path):
    plan = planned(
        tmp_path,
        "a ansible_host=10.0.0.1 sappers_zone=east\nb ansible_host=10.0.0.2 sappers_voter=true\n"
        "[voters]\nc ansible_host=10.0.0.3\n",
    )
    assert {one.name: one.voter_tag for one in plan.members} == {"a": False, "b": True, "c": True}
    assert plan.member("a").zone == "east"
    assert set(plan.founders()[:2]) == {"b", "c"}


@pytest.mark.parametrize(("hosts", "voters"), [(1, 1), (2, 1), (3, 3), (4, 3), (9, 3)])
def test_an_odd_number_founds(tmp_path, hosts, voters):
    text = "".join(f"h{n} ansible_host=10.0.0.{n}\n" for n in range(1, hosts + 1))
    assert planned(tmp_path, text).founding_voters == voters


def test_who_has_consul_has_a_gateway(tmp_path):
    plan = planned(
        tmp_path,
        "a ansible_host=10.0.0.1 consul=true\n"
        "b ansible_host=10.0.0.2 consul=true sappers_gateway_port=80\n"
        "c ansible_host=10.0.0.3 consul=true sappers_gateway_port=0\n"
        "d ansible_host=10.0.0.4\n"
        "e ansible_host=10.0.0.5 sappers_gateway_port=8080\n",
    )
    assert [plan.ports_of(name).gateway for name in "abcde"] == [8080, 80, 0, 0, 0]
    assert [packages_for(plan.member(name))[3:] for name in "abcd"] == [
        *([("haproxy",)] * 2),
        *([()] * 2),
    ]
    (problem,) = plan.member("e").problems
    assert "consul is not" in problem.message and problem.hint == "set consul=true"


@pytest.mark.parametrize("port", ["http", "-1", "65536", ""])
def test_a_gateways_port_that_is_none_is_refused(tmp_path, port):
    with pytest.raises(InventoryError, match="sappers_gateway_port of host a"):
        planned(tmp_path, f"a ansible_host=10.0.0.1 consul=true sappers_gateway_port={port}\n")


def test_peers_are_all_others(tmp_path):
    plan = planned(
        tmp_path,
        "a ansible_host=10.0.0.1\nb ansible_host=named\nc ansible_host=x sappers_address=fd00::3\n",
    )
    assert plan.peers_of("a") == ("10.0.0.9:7946", "[fd00::3]:7946")


def test_an_alias_of_ssh_has_the_address_that_ssh_connects_to(tmp_path):
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(
        "Host nick other\n  HostName named\nHost 10.*\n  HostName nowhere\n"
    )
    config = read_ssh_config(tmp_path)
    inventory = tmp_path / "lab.ini"
    inventory.write_text("nick\nb ansible_host=other sappers_address=10.0.0.1\nc\n")
    plan = plan_cluster(
        load_inventory(inventory), resolve, lambda name: host_name(name, config, tmp_path)
    )
    assert plan.member("nick").address == "10.0.0.9"
    assert plan.member("b").address == "10.0.0.1"
    assert "no IP address for c" in plan.member("c").problems[0].message


def test_every_impossible_host_is_named(tmp_path):
    plan = planned(
        tmp_path,
        "Big ansible_host=10.0.0.1\na ansible_host=nowhere\nb ansible_host=10.0.0.2\n"
        "c ansible_host=10.0.0.2\nd ansible_host=10.0.0.3\n",
    )
    problems = {one.name: [p.message for p in one.problems] for one in plan.members}
    assert "lower-case" in problems["Big"][0]
    assert "no IP address for nowhere" in problems["a"][0]
    assert "c has the same address" in problems["b"][0]
    assert "b has the same address" in problems["c"][0]
    assert problems["d"] == []


def test_images_as_a_list_or_text(tmp_path):
    host = "a ansible_host=10.0.0.1"
    assert planned(tmp_path, f"{host}\n").images is None
    assert planned(tmp_path, f"{host} sappers_images=hello,healer\n").images == ("hello", "healer")


def test_no_host_is_an_error(tmp_path):
    with pytest.raises(InventoryError, match="no host"):
        planned(tmp_path, "[voters]\n")


def test_how_much_network_images_may_take(tmp_path):
    plan = planned(
        tmp_path,
        "a ansible_host=10.0.0.1 sappers_image_download_mbit=2.5 sappers_image_uploads_at_once=3\n"
        "b ansible_host=10.0.0.2\n",
    )
    assert plan.member("a").images == ImageSettings(download_mbit_per_second=2.5, uploads_at_once=3)
    assert plan.member("b").images == ImageSettings()


def test_how_much_of_what_happened_is_kept(tmp_path):
    plan = planned(tmp_path, "a ansible_host=10.0.0.1 sappers_events_keep_days=30\n")
    assert plan.member("a").events == EventSettings(keep_days=30.0)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("sappers_image_download_mbit", "fast"),
        ("sappers_image_upload_mbit", "-1"),
        ("sappers_image_upload_mbit", "nan"),
        ("sappers_image_downloads_at_once", "0"),
        ("sappers_image_uploads_at_once", "1.5"),
        ("sappers_events_keep_days", "long"),
        ("sappers_events_keep_mib", "0"),
    ],
)
def test_a_wrong_limit_is_said_where_it_stands(tmp_path, variable, value):
    with pytest.raises(InventoryError, match=rf"lab\.ini:2:\d+: {variable} of host a"):
        planned(tmp_path, f"[voters]\na ansible_host=10.0.0.1 {variable}={value}\n")
