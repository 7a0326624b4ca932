"""What a host is told: the settings an agent can load, and when it must start again."""

from __future__ import annotations

import os
import shutil
import subprocess

import msgspec
import pytest

from sappers.config import load_agent_settings
from sappers.launchers.guest_identity import user_id_for
from sappers.model.image import ImageKey
from sappers.model.policy import ImageSettings
from sappers.provisioner.bootstrap.founding import Founding, decide_founding, load_founding
from sappers.provisioner.bootstrap.plan import ClusterPlan, PlannedMember
from sappers.provisioner.bootstrap.units import (
    fingerprint,
    plan_settings,
    render_settings,
    render_unit,
    role_source,
)
from sappers.provisioner.places import PLAYBOOKS

MEMBERS = tuple(
    PlannedMember(name, f"10.0.0.{n}", voter_tag=name != "a", zone='ost & "west"')
    for n, name in enumerate("abcd", start=1)
)
PLAN = ClusterPlan(name="lab", members=MEMBERS)


def test_an_agent_reads_what_is_written(tmp_path):
    settings = plan_settings(PLAN, Founding("b", 3), "b")
    path = tmp_path / "agent.toml"
    path.write_bytes(render_settings(settings))
    assert load_agent_settings(path) == settings


def test_one_host_founds():
    told = [plan_settings(PLAN, Founding("b", 3), name).bootstrap for name in "abcd"]
    assert told == [0, 3, 0, 0]


def test_only_what_it_runs_with_restarts_an_agent():
    settings = plan_settings(PLAN, Founding("b", 3), "b")
    same = fingerprint(settings, version="1", identity_digest="x")
    joined = msgspec.structs.replace(settings, peers=("10.0.0.9:7946",))
    moved = msgspec.structs.replace(settings, address="10.0.0.77")
    assert fingerprint(joined, version="1", identity_digest="x") == same
    assert fingerprint(moved, version="1", identity_digest="x") != same
    assert fingerprint(settings, version="2", identity_digest="x") != same
    assert fingerprint(settings, version="1", identity_digest="y") != same
    assert fingerprint(settings, version="1", identity_digest="x", source=b"unit") != same


def test_a_unit_that_is_changed_in_a_copy_of_the_playbook_restarts_agents(tmp_path):
    assert role_source(tmp_path) == role_source(PLAYBOOKS)
    copy = tmp_path / "roles/start/templates"
    shutil.copytree(PLAYBOOKS / "roles/start/templates", copy)
    assert role_source(tmp_path) == role_source(PLAYBOOKS)
    unit = copy / "sappers.service.j2"
    unit.write_text(unit.read_text() + "# changed\n")
    assert role_source(tmp_path) != role_source(PLAYBOOKS)


def test_the_unit_keeps_guests_apart():
    unit = render_unit().decode()
    assert "ExecStart=/opt/sappers/current/bin/sappers /var/lib/sappers\n" in unit
    for line in ("Type=notify", "KillMode=mixed", "Restart=on-failure", "NoNewPrivileges=yes"):
        assert f"{line}\n" in unit


def test_guests_do_not_reach_the_hosts_loopback():
    rules, limits = guest_rules()
    assert "127.0.0.0/8" in rules and "169.254.0.0/16" in rules
    assert "tcp dport 4222" in limits


def test_nft_takes_the_rules_for_guests():
    """Root of a new network namespace may load them, where there are such namespaces."""
    alone = ["unshare", *(["--user", "--map-root-user"] if os.geteuid() else []), "--net"]
    if subprocess.run([*alone, "nft", "list", "ruleset"], check=False).returncode:
        pytest.skip("no nft, or no network namespace of its own")
    for rules in guest_rules():
        twice = f'nft "{rules}" && nft "{rules}"'
        done = subprocess.run([*alone, "sh", "-c", twice], check=False, capture_output=True)
        assert done.returncode == 0, done.stderr


def guest_rules() -> list[str]:
    lines = [line for line in render_unit().decode().splitlines() if "ExecStartPre" in line]
    found = [line.partition('"')[2].removesuffix('"') for line in lines]
    for rules in found:
        assert '"' not in rules and "%" not in rules and "$" not in rules  # systemd would read them
        assert f"meta skuid {user_id_for('hello-1') & ~0xFFFFFF}-" in rules
    return found


def test_the_founder_never_changes(tmp_path):
    first = decide_founding(tmp_path, PLAN, lambda: ["a", "c", "d"], check=False)
    assert first == Founding("c", 3)  # a tagged voter goes before an untagged one
    assert decide_founding(tmp_path, PLAN, lambda: ["b"], check=False) == first


def test_check_mode_decides_nothing(tmp_path):
    assert decide_founding(tmp_path, PLAN, lambda: ["a"], check=True) == Founding("a", 3)
    assert load_founding(tmp_path) is None


def test_image_settings_and_keys_are_told_and_keys_restart_nobody(tmp_path):
    limited = ImageSettings(download_mbit_per_second=2.5, uploads_at_once=3)
    members = tuple(msgspec.structs.replace(one, images=limited) for one in MEMBERS)
    plan = msgspec.structs.replace(PLAN, members=members)
    key = ImageKey("a" * 64, 'root@"quoted"')
    settings = plan_settings(plan, Founding("b", 3), "b", (key,))
    path = tmp_path / "agent.toml"
    path.write_bytes(render_settings(settings))
    read = load_agent_settings(path)
    assert (read.images, read.image_keys) == (limited, (key,))
    without = plan_settings(plan, Founding("b", 3), "b")
    same = fingerprint(settings, version="1", identity_digest="x")
    assert fingerprint(without, version="1", identity_digest="x") == same
    unlimited = plan_settings(PLAN, Founding("b", 3), "b")
    assert fingerprint(unlimited, version="1", identity_digest="x") != same
