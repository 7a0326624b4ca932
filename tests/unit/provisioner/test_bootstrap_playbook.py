"""The playbook that bootstrap runs: whole, and what its roles do to a host.

Roles that need neither packages nor systemd run on this machine, in a folder of the test's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sappers.errors import HostError, PlaybookError
from sappers.provisioner.bootstrap.host_plays import HostPlays
from sappers.provisioner.bootstrap.member_values import MemberValues
from sappers.provisioner.bootstrap.plan import ClusterPlan, PlannedMember
from sappers.provisioner.bootstrap.playbook import load_plays, titles
from sappers.provisioner.bootstrap.settled import Settled
from sappers.provisioner.connection.local import LocalConnection
from sappers.provisioner.control.identity import ControlIdentity, ensure_control_identity
from sappers.provisioner.inventory.inventory import load_inventory
from sappers.provisioner.places import BOOTSTRAP_PLAYBOOK, PLAYBOOKS
from sappers.provisioner.playbook.language.load import load_playbook
from tests.unit.provisioner.control.test_control_identity import hub
from tests.unit.provisioner.fit_host import FIT

PLAN = ClusterPlan("lab", (PlannedMember("a", "10.0.0.1", voter_tag=True),))

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="files are given to root")


@pytest.fixture
def identity(tmp_path: Path) -> ControlIdentity:
    return ensure_control_identity(tmp_path / "control", "lab", hub)


class OnThisMachine:
    """One host, which is this machine, with a folder instead of /var/lib/sappers."""

    def __init__(self, tmp_path: Path, identity: ControlIdentity | None) -> None:
        self.state = tmp_path / "state"
        inventory = tmp_path / "inventory.ini"
        inventory.write_text("a ansible_connection=local\n")
        self._inventory = load_inventory(inventory)
        self._folder = tmp_path
        (tmp_path / "roles").symlink_to(PLAYBOOKS / "roles")
        self._connection = LocalConnection(self._inventory.hosts[0])
        self._values = MemberValues(
            PLAN,
            identity,
            lambda: None,
            None,
            None,
            lambda: None,
            None,  # type: ignore[arg-type, return-value]
        )
        self.notes: list[str] = []

    def run(self, role: str, settled: Settled, *, check: bool = False) -> list[str] | None:
        playbook = self._folder / "play.yml"
        playbook.write_text(f"- {{hosts: all, gather_facts: false, roles: [{role}]}}")
        (play,) = load_playbook(playbook)
        host: Any = SimpleNamespace(
            name="a", check=check, settled=settled, certificate=settled.certificate, running=False,
            facts=FIT, member=PLAN.member("a"), connection=None, host=self._inventory.hosts[0],
        )  # fmt: skip
        plays = HostPlays(
            "a", self._inventory, self._connection, self._connection.start_executor(), check=check,
            given={**self._values.given(host), "sappers_state": str(self.state)},
            lookups=self._values.lookups(host), note=self.notes.append,
        )  # fmt: skip
        return plays.run(play)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def here(tmp_path: Path, identity: ControlIdentity) -> Iterator[OnThisMachine]:
    machine = OnThisMachine(tmp_path, identity)
    yield machine
    machine.close()


def test_its_plays_are_the_steps_that_people_see():
    told = " ".join(titles(PLAN, load_plays(BOOTSTRAP_PLAYBOOK)))
    assert told == "connect apt packages identity agent start restart cluster images"


def test_turns_that_it_does_not_know_are_refused(tmp_path):
    path = tmp_path / "own.yml"
    path.write_text("- {name: identity, hosts: all, serial: 2, tasks: []}\n")
    with pytest.raises(PlaybookError, match="serial: 1"):
        load_plays(path)


@pytest.mark.parametrize("lost", ["identity", "start", "restart"])
def test_without_a_play_that_the_run_goes_on_from_it_is_refused(tmp_path, lost):
    names = {"identity", "start", "restart"} - {lost}
    path = tmp_path / "own.yml"
    path.write_text("".join(f"- {{name: {name}, hosts: all, tasks: []}}\n" for name in names))
    with pytest.raises(PlaybookError, match=f"no play named {lost}"):
        load_plays(path)


@needs_root
def test_a_host_becomes_a_member_and_then_nothing_is_to_be_done(here, identity):
    changed = here.run("identity", Settled("a-0a1b2c"))
    assert changed is not None
    assert f"file {here.state}/pki/cert.pem" in changed
    certificate = (here.state / "pki/cert.pem").read_bytes()
    assert identity.renewal_of(certificate, "10.0.0.1") is None
    assert (here.state / "gossip.key").read_text() == identity.gossip_key
    assert (here.state / "hub.seed").read_text() == "seed\n"
    private = ("pki/key.pem", "gossip.key", "hub.seed", "hub/account.jwt", "node-id")
    assert {(here.state / name).stat().st_mode & 0o777 for name in private} == {0o600}
    key = (here.state / "pki/key.pem").read_bytes()

    settled = Settled("a-0a1b2c", is_member=True, certificate=certificate)
    assert here.run("identity", settled) == []
    assert (here.state / "pki/key.pem").read_bytes() == key
    assert (here.state / "pki/cert.pem").read_bytes() == certificate


@needs_root
def test_a_certificate_of_a_lost_key_is_not_kept(here):
    here.run("identity", Settled("a-0a1b2c"))
    certificate = (here.state / "pki/cert.pem").read_bytes()
    (here.state / "pki/key.pem").unlink()
    here.run("identity", Settled("a-0a1b2c", is_member=True, certificate=certificate))
    assert (here.state / "pki/cert.pem").read_bytes() != certificate


@needs_root
def test_no_secret_is_told_to_anybody(here, identity):
    here.run("identity", Settled("a-0a1b2c"))
    told = "\n".join(here.notes)
    assert identity.gossip_key.strip() not in told
    assert "PRIVATE" not in told


def test_check_mode_announces_a_new_member_and_makes_nothing(tmp_path):
    machine = OnThisMachine(tmp_path, None)
    changed = machine.run("identity", Settled("a-0a1b2c"), check=True)
    machine.close()
    assert changed is not None
    for name in ("pki/key.pem", "pki/cert.pem", "pki/ca.pem", "gossip.key", "hub.seed"):
        assert f"file {machine.state}/{name}" in changed
    assert not machine.state.exists()


@needs_root
def test_what_fails_is_told_with_its_place(here):
    here.state.write_text("a file where a folder should be")
    with pytest.raises(HostError) as told:
        here.run("identity", Settled("a-0a1b2c"))
    assert "roles/identity/tasks/main.yml" in str(told.value.hint)
