"""What a host's Consul is told: settings, certificate, unit; and which hosts have one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from sappers.errors import ApiError, ConfigError, InventoryError
from sappers.model.view import MemberHealth
from sappers.provisioner.bootstrap.consul_settings import (
    SERVER_NAME,
    consul_settings,
    join_settings,
    render_consul_unit,
)
from sappers.provisioner.bootstrap.consul_step import choose_servers
from sappers.provisioner.bootstrap.forming import Answers
from sappers.provisioner.bootstrap.founding import Founding
from sappers.provisioner.bootstrap.phases.consul import MAKE_KEY, TAKE_OVER, ConsulServers
from sappers.provisioner.bootstrap.plan import ClusterPlan, plan_cluster
from sappers.provisioner.bootstrap.run import HostRun
from sappers.provisioner.bootstrap.units import plan_settings
from sappers.provisioner.control.consul_secrets import (
    ConsulSecrets,
    ensure_consul_secrets,
    load_consul_secrets,
)
from sappers.provisioner.inventory.inventory import Host, load_inventory
from sappers.security.authority import (
    create_authority,
    create_request,
    needs_renewal,
    sign_service_request,
)

SECRETS = ConsulSecrets(gossip_key="a2V5", token="t-o-k-e-n")


def planned(folder: Path, text: str) -> ClusterPlan:
    path = folder / "lab.ini"
    path.write_text(text)
    return plan_cluster(load_inventory(path), str)


def told(**changes: object) -> dict[str, object]:
    arguments: dict[str, object] = {"servers": 3, "version": (1, 8), **changes}
    found: dict[str, object] = json.loads(
        consul_settings("lab1", "10.0.0.1", SECRETS, **arguments)  # type: ignore[arg-type]
    )
    return found


def test_consul_is_a_variable_of_hosts_and_groups(tmp_path: Path) -> None:
    text = "a ansible_host=10.0.0.1\n[web]\nb ansible_host=10.0.0.2\n[web:vars]\nconsul=true\n"
    plan = planned(tmp_path, text)
    assert [one.consul for one in plan.members] == [False, True]
    assert plan.consul_addresses == ("10.0.0.2",)
    agent = plan_settings(plan, Founding("a", 1), "b").consul
    assert (agent.enabled, agent.token_file) == (True, "/var/lib/sappers/consul.token")
    assert not plan_settings(plan, Founding("a", 1), "a").consul.enabled
    with pytest.raises(InventoryError, match="consul of host a"):
        planned(tmp_path, "a ansible_host=10.0.0.1 consul=perhaps\n")


def test_servers_expect_each_other_and_clients_expect_nobody() -> None:
    server, client = told(), told(servers=None)
    assert (server["server"], server["bootstrap_expect"]) == (True, 3)
    assert client["server"] is False and "bootstrap_expect" not in client


def test_only_members_are_let_in_and_only_on_loopback_without_tls() -> None:
    settings = told()
    for field in ("verify_incoming", "verify_outgoing", "verify_server_hostname"):
        assert settings[field] is True
    assert settings["client_addr"] == "127.0.0.1"
    assert settings["encrypt"] == SECRETS.gossip_key
    acl = settings["acl"]
    assert isinstance(acl, dict) and acl["default_policy"] == "deny"
    assert acl["tokens"] == {"master": "t-o-k-e-n", "agent": "t-o-k-e-n"}


def test_a_newer_consul_is_told_in_its_own_words() -> None:
    acl = told(version=(1, 20))["acl"]
    assert isinstance(acl, dict) and "initial_management" in acl["tokens"]


def test_who_joins_later_changes_only_where_consul_looks() -> None:
    assert json.loads(join_settings(["10.0.0.1", "fd00::2"]))["retry_join"] == [
        "10.0.0.1",
        "[fd00::2]",
    ]
    assert "retry_join" not in told()


def test_secrets_are_made_once_and_hidden(tmp_path: Path) -> None:
    assert load_consul_secrets(tmp_path) is None
    first = ensure_consul_secrets(tmp_path)
    assert ensure_consul_secrets(tmp_path) == first == load_consul_secrets(tmp_path)
    assert first.token not in repr(first)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("{")
    with pytest.raises(ConfigError, match="consul-secrets"):
        load_consul_secrets(tmp_path)


def test_only_a_servers_certificate_has_the_servers_name() -> None:
    authority = create_authority("lab")
    _, request = create_request("lab1")
    now = time.time()
    server = sign_service_request(authority, request, node_id="lab1", names=[SERVER_NAME])
    assert needs_renewal(server, authority.cert_pem, (), now, names=[SERVER_NAME]) is None
    assert needs_renewal(server, authority.cert_pem, (), now, names=["lab1.consul"]) is not None


def test_the_unit_shows_consul_its_own_folder_alone() -> None:
    unit = render_consul_unit("/opt/sappers/consul/consul").decode()
    assert "TemporaryFileSystem=/var/lib/sappers:ro\n" in unit
    assert "BindReadOnlyPaths=/var/lib/sappers/consul\n" in unit
    assert "BindPaths=/var/lib/sappers/consul/data\n" in unit
    assert "User=sappers-consul\n" in unit


@pytest.mark.skipif(os.geteuid() != 0, reason="files are given to root")
def test_a_folder_that_was_consuls_own_is_taken_over_without_following_a_link(
    tmp_path: Path,
) -> None:
    victim = tmp_path / "hub.seed"
    victim.write_text("secret")
    folder, other = tmp_path / "consul", tmp_path / "other"
    for one in (folder, other, folder / "raft"):
        one.mkdir()
    (other / "kept").touch()
    for name in ("token", "key.pem.new", "agent.json"):
        (folder / name).symlink_to(victim)
    (folder / "data").symlink_to(other)
    for name in ("nobody", "root"):  # taken over already it stays as it is
        shutil.chown(folder, name)
        run_script(TAKE_OVER, folder)
        assert list(folder.iterdir()) == []
        assert (folder.owner(), folder.group()) == ("root", "nogroup")
    (folder / "data").mkdir()
    (folder / "data/raft").touch()
    run_script(TAKE_OVER, folder)
    assert (folder / "data/raft").exists() and (other / "kept").exists()
    (folder / "key.pem.new").symlink_to(victim)
    run_script(MAKE_KEY, folder / "key.pem")
    key = (folder / "key.pem").stat()
    assert (key.st_uid, key.st_mode & 0o7777) == (0, 0o640)
    assert [one.name for one in sorted(folder.iterdir())] == ["data", "key.pem"]
    assert (victim.read_text(), victim.owner()) == ("secret", "root")


def run_script(script: str, path: Path) -> None:
    subprocess.run(["sh", "-c", script, "sh", str(path), "nogroup"], check=True)


class NoProbe:
    def health(self, host: HostRun) -> MemberHealth:
        raise ApiError(f"{host.name} does not answer")


def health(name: str, role: str) -> MemberHealth:
    return MemberHealth(
        member_id=name,
        name=name,
        version="",
        cluster_id="c",
        role=role,
        term=1,
        leader_id="a",
        commit_index=1,
        applied_index=1,
        hub="-",
        hub_connected=True,
    )


def chosen(plan: ClusterPlan, names: str, answers: Answers) -> ConsulServers:
    runs = [
        HostRun(Host(name, (), {}, "", consul=plan.member(name).consul), plan.member(name),
                check=False, note=lambda text: None)
        for name in names
    ]  # fmt: skip
    return choose_servers(runs, answers, NoProbe(), plan)


def test_servers_are_the_voters_that_have_consul(tmp_path: Path) -> None:
    rows = [f"{name} ansible_host=10.0.0.{n} consul=true" for n, name in enumerate("abcd", 1)]
    plan = planned(tmp_path, "\n".join((*rows, "e ansible_host=10.0.0.9\n")))
    answers: Answers = {
        name: health(name, role)
        for name, role in zip(
            "abcde", ["leader", "none", "follower", "none", "follower"], strict=True
        )
    }
    assert chosen(plan, "abcde", answers) == ConsulServers(frozenset("ac"), 2)
    # Of hosts that this run does not work on it is not known whether they vote.
    assert chosen(plan, "ab", answers) == ConsulServers(frozenset("a"), plan.founding_voters)
    # In check mode nobody may run yet: the plan's own order says who may.
    assert chosen(plan, "abcde", {}) == ConsulServers(frozenset("abc"), 3)
