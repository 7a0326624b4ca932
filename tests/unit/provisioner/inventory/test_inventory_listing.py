"""The cluster as it is now, as Ansible's inventory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from sappers.model.allocation import AllocationStatus
from sappers.model.cordon import Cordon
from sappers.model.member import MemberState
from sappers.model.view import MemberView
from sappers.provisioner.inventory.inventory import parse_inventory
from sappers.provisioner.inventory.listing import list_cluster, list_inventory
from tests.fake_member import make_allocation, make_member, make_view

ROOT = Path(__file__).parents[4]


def seen(node_id: str, state: MemberState = MemberState.ALIVE, zone: str = "") -> MemberView:
    member = make_member(node_id.partition("-")[0], "10.0.0.9")
    member = msgspec.structs.replace(member, id=node_id, state=state, zone=zone)
    return MemberView(member, "follower", 1, 0, 0, "-")


def test_members_are_in_groups_by_what_they_are() -> None:
    healthy = msgspec.structs.replace(
        make_allocation("my-web", "a-1"), status=AllocationStatus.HEALTHY
    )
    view = msgspec.structs.replace(
        make_view(
            (
                seen("a-1", zone="east/1"),
                seen("b-1", MemberState.DEAD),
                seen("b-2"),
                seen("c-1", MemberState.DEAD),
                seen("d-1", MemberState.LEFT),
            ),
            allocations=(healthy, make_allocation("db", "b-2")),
            electorate=("a-1", "b-2"),
        ),
        leader_id="a-1",
        cordons={"b-2": Cordon(drain=False, since=1.0)},
    )
    known = parse_inventory("a ansible_user=ada ansible_host=1.2.3.4 ansible_password=hush\n")
    listing = list_cluster(view, {host.name: host for host in known.hosts})
    groups = {name: part["hosts"] for name, part in listing.items() if "hosts" in part}
    assert groups == {
        "sappers_members": ["a", "b", "c"],
        "sappers_alive": ["a", "b"],
        "sappers_dead": ["c"],
        "sappers_voters": ["a", "b"],
        "sappers_leader": ["a"],
        "sappers_cordoned": ["b"],
        "sappers_zone_east_1": ["a"],
        "sappers_runs_my_web": ["a"],
    }
    variables = listing["_meta"]["hostvars"]
    assert variables["a"]["ansible_host"] == "1.2.3.4"
    assert variables["a"]["ansible_user"] == "ada"
    assert variables["a"]["sappers_workloads"] == ["my-web"]
    assert variables["b"]["ansible_host"] == "10.0.0.9"
    assert variables["b"]["sappers_member_id"] == "b-2"
    assert "hush" not in json.dumps(listing)
    assert list_inventory(parse_inventory(json.dumps(listing)))["_meta"] == listing["_meta"]


def test_the_script_is_a_dynamic_inventory(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("web: {hosts: {h1: {x: 1}, h2: }}\n")
    program = tmp_path / "deploy"
    words = "from sappers.cli.deploy import main; main()"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{words}" "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "SAPPERS_DEPLOY": str(program), "SAPPERS_HOME": str(tmp_path)}

    def ask(*words: str) -> object:
        done = subprocess.run(
            [ROOT / "inventory/cluster", *words, "-i", tmp_path / "hosts.yml"],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)

    assert ask("--host", "h1") == {"x": 1}
    listing = ask("--list")
    assert isinstance(listing, dict)
    assert listing["web"] == {"hosts": ["h1", "h2"]}
    # What has none of these keys Ansible takes for a host.
    assert listing["ungrouped"] == {"hosts": []}
    groups = [part for name, part in listing.items() if name != "_meta"]
    assert all(part.keys() & {"hosts", "children", "vars"} for part in groups)
