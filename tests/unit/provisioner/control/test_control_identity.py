"""A cluster's secrets: complete, private, made once; and who holds the run's lock."""

from __future__ import annotations

import os
import threading

import pytest

from sappers.errors import IdentityError, LockHeld
from sappers.provisioner.bootstrap.run import Meeting
from sappers.provisioner.control.identity import (
    HubSecrets,
    ensure_control_identity,
    load_control_identity,
)
from sappers.provisioner.control.run_lock import describe_holder, run_lock
from sappers.security.authority import create_request
from tests.unit.provisioner.fit_host import FIT


def hub(cluster: str) -> HubSecrets:
    return HubSecrets(f"operator {cluster}", "account", "seed")


def test_made_once_and_private(tmp_path):
    folder = tmp_path / "lab"
    assert load_control_identity(folder) is None
    first = ensure_control_identity(folder, "lab", hub)
    assert ensure_control_identity(folder, "lab", hub) == first
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}


def test_secrets_show_in_no_repr(tmp_path):
    identity = ensure_control_identity(tmp_path / "lab", "lab", hub)
    assert identity.gossip_key.strip() not in repr(identity)
    assert "seed" not in repr(identity)


@pytest.mark.parametrize("lost", ["operator.pem", "gossip.key", "hub-account.seed"])
def test_an_interrupted_run_is_completed(tmp_path, lost):
    folder = tmp_path / "lab"
    first = ensure_control_identity(folder, "lab", hub)
    (folder / lost).unlink()
    again = ensure_control_identity(folder, "lab", hub)
    assert again.authority == first.authority
    assert (folder / lost).exists()


def test_a_lost_ca_key_is_never_replaced(tmp_path):
    folder = tmp_path / "lab"
    ensure_control_identity(folder, "lab", hub)
    (folder / "ca.key").unlink()
    with pytest.raises(IdentityError, match=r"ca\.key"):
        ensure_control_identity(folder, "lab", hub)


def test_certificates_are_renewed_when_the_address_changes(tmp_path):
    identity = ensure_control_identity(tmp_path / "lab", "lab", hub)
    _, request = create_request("a-1")
    certificate = identity.sign_agent(request, "a-1", "10.0.0.1")
    assert identity.renewal_of(certificate, "10.0.0.1") is None
    assert "10.0.0.2" in (identity.renewal_of(certificate, "10.0.0.2") or "")


def test_the_second_run_learns_who_holds_the_lock(tmp_path):
    holder = describe_holder(0.0)
    assert f"pid {os.getpid()}" in holder
    with run_lock(tmp_path, "lab", holder):
        with pytest.raises(LockHeld) as caught, run_lock(tmp_path, "lab", "me"):
            pass
        assert holder in caught.value.message
    with run_lock(tmp_path, "lab", holder):
        pass


def test_hosts_meet_without_waiting_for_the_lost():
    meeting = Meeting(grace_seconds=60.0)
    for name in "abc":
        meeting.expect(name)
    seen: dict[str, set[str]] = {}
    threads = [
        threading.Thread(target=lambda n=name: seen.update({n: set(meeting.meet(n, FIT))}))
        for name in "ab"
    ]
    for thread in threads:
        thread.start()
    meeting.give_up("c")
    for thread in threads:
        thread.join(timeout=60.0)
    assert seen == {"a": {"a", "b"}, "b": {"a", "b"}}


def test_a_late_host_is_waited_for_a_moment_only():
    meeting = Meeting(grace_seconds=0.05)
    meeting.expect("a")
    meeting.expect("late")
    assert set(meeting.meet("a", FIT)) == {"a"}
