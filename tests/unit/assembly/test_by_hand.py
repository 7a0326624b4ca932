from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from sappers.agent.flags import StartFlags
from sappers.assembly.by_hand import (
    KEYS_FOLDER,
    load_cluster_keys,
    operator_identity,
    prepare_by_hand,
)
from sappers.cli.session import endpoints_of
from sappers.config import AgentSettings, StateFolder
from sappers.errors import ConfigError, IdentityError
from sappers.provisioner.control.record import load_record
from sappers.security.identity import load_identity

HERE = "127.0.0.1"


def start(root: Path, name: str, given: Path | None = None, **flags: object) -> AgentSettings:
    flags = {"node_id": name, "raft_addr": f"{HERE}:12000"} | flags
    folder = StateFolder(root / name)
    folder.root.mkdir(parents=True, exist_ok=True)
    return prepare_by_hand(folder, StartFlags(**flags), given)


def test_the_founder_makes_the_keys_and_its_own_identity(tmp_path: Path) -> None:
    settings = start(tmp_path, "node1", bootstrap=3)
    assert (settings.bootstrap, settings.cluster, settings.node_name) == (3, "sappers", "node1")
    keys = load_cluster_keys(tmp_path / KEYS_FOLDER)
    assert keys is not None
    assert [one.key for one in settings.image_keys] == [keys.signing_key.public]
    identity = load_identity(tmp_path / "node1" / "pki")
    assert (identity.node_id, identity.role) == ("node1", "agent")
    assert load_record(keys.folder).members[0].address == HERE


def test_nothing_of_it_is_for_others_to_read(tmp_path: Path) -> None:
    start(tmp_path, "node1", bootstrap=1)
    folder = tmp_path / KEYS_FOLDER
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    secret = {"ca.key", "gossip.key", "hub-account.seed", "image-signing.key", "operator.key"}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert {name: modes[name] for name in secret} == dict.fromkeys(secret, 0o600)
    for name in ("gossip.key", "hub.seed", "pki/key.pem", "node-id"):
        assert stat.S_IMODE((tmp_path / "node1" / name).stat().st_mode) == 0o600


def test_others_take_their_identity_from_the_same_keys_and_never_change_them(
    tmp_path: Path,
) -> None:
    start(tmp_path, "node1", bootstrap=3)
    keys = {p.name: p.read_bytes() for p in (tmp_path / KEYS_FOLDER).iterdir()}
    start(tmp_path, "node2", peers=f"{HERE}:7946")
    after = {p.name: p.read_bytes() for p in (tmp_path / KEYS_FOLDER).iterdir()}
    keys.pop("cluster.json")
    assert keys.items() <= after.items()
    one, two = (tmp_path / name / "pki" for name in ("node1", "node2"))
    assert (one / "ca.pem").read_bytes() == (two / "ca.pem").read_bytes()
    assert (one / "key.pem").read_bytes() != (two / "key.pem").read_bytes()
    record = load_record(tmp_path / KEYS_FOLDER)
    assert [one.node_id for one in endpoints_of(record)] == ["node1", "node2"]


def test_two_that_are_told_to_found_at_once_agree_on_one(tmp_path: Path) -> None:
    found: list[AgentSettings] = []

    def run(name: str) -> None:
        found.append(start(tmp_path, name, bootstrap=2, peers=f"{HERE}:7946"))

    threads = [threading.Thread(target=run, args=(name,)) for name in ("node1", "node2")]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(one.bootstrap for one in found) == [0, 2]
    # The one that does not found is told so again at each start.
    again = [start(tmp_path, name, bootstrap=2) for name in ("node1", "node2")]
    assert sorted(one.bootstrap for one in again) == [0, 2]


def test_without_keys_a_new_member_is_told_what_to_copy_from_where(tmp_path: Path) -> None:
    with pytest.raises(IdentityError) as refused:
        start(tmp_path, "node2", peers="10.0.0.1:7946")
    assert str(tmp_path / KEYS_FOLDER) in refused.value.message
    assert "--bootstrap" in (refused.value.hint or "")
    assert "scp -rp" in (refused.value.hint or "")
    assert not (tmp_path / "node2" / "agent.toml").exists()


def test_an_agent_that_would_meet_nobody_is_not_started(tmp_path: Path) -> None:
    start(tmp_path, "node1", bootstrap=3)
    with pytest.raises(ConfigError, match="nobody to meet"):
        start(tmp_path, "node2")


def test_once_it_has_its_certificate_an_agent_needs_the_keys_no_more(tmp_path: Path) -> None:
    before = start(tmp_path, "node1", bootstrap=3)
    (tmp_path / KEYS_FOLDER).rename(tmp_path / "elsewhere")
    assert start(tmp_path, "node1") == before
    identity, keys = operator_identity(StateFolder(tmp_path / "node1"), None)
    assert (identity.role, keys) == ("agent", None)
    identity, keys = operator_identity(StateFolder(tmp_path / "node1"), tmp_path / "elsewhere")
    assert identity.role == "operator"
    assert keys is not None


def test_a_certificate_that_does_not_serve_any_more_is_signed_again(tmp_path: Path) -> None:
    start(tmp_path, "node1", bootstrap=3)
    pki = tmp_path / "node1" / "pki"
    before = (pki / "cert.pem").read_bytes()
    start(tmp_path, "node1")
    assert (pki / "cert.pem").read_bytes() == before
    start(tmp_path, "node1", raft_addr="127.0.0.2:12000")
    moved = (pki / "cert.pem").read_bytes()
    assert moved != before
    (pki / "key.pem").unlink()  # as if the power had failed between the two files
    start(tmp_path, "node1", raft_addr="127.0.0.2:12000")
    assert load_identity(pki).node_id == "node1"


def test_the_keys_of_another_cluster_are_refused(tmp_path: Path) -> None:
    start(tmp_path / "a", "node1", bootstrap=1)
    start(tmp_path / "b", "node1", bootstrap=1)
    with pytest.raises(IdentityError, match="is not that of the cluster"):
        start(tmp_path / "a", "node1", tmp_path / "b" / KEYS_FOLDER)


def test_keys_that_others_can_reach_are_refused(tmp_path: Path) -> None:
    start(tmp_path, "node1", bootstrap=3)
    (tmp_path / KEYS_FOLDER).chmod(0o755)
    with pytest.raises(IdentityError, match="other users can reach"):
        start(tmp_path, "node2", peers=f"{HERE}:7946")


def test_a_link_to_keys_is_refused(tmp_path: Path) -> None:
    start(tmp_path / "a", "node1", bootstrap=1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / KEYS_FOLDER).symlink_to(tmp_path / "a" / KEYS_FOLDER)
    with pytest.raises(IdentityError, match="a link"):
        start(tmp_path / "b", "node2", peers=f"{HERE}:7946")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_that_another_user_put_there_gets_no_keys(tmp_path: Path) -> None:
    (tmp_path / KEYS_FOLDER).mkdir(mode=0o700)
    os.chown(tmp_path / KEYS_FOLDER, 23456, 23456)
    with pytest.raises(IdentityError, match="another user owns it"):
        start(tmp_path, "node1", bootstrap=1)
    assert list((tmp_path / KEYS_FOLDER).iterdir()) == []


def test_half_a_folder_of_keys_is_not_completed_with_new_ones(tmp_path: Path) -> None:
    start(tmp_path, "node1", bootstrap=3)
    (tmp_path / KEYS_FOLDER / "ca.key").unlink()
    with pytest.raises(IdentityError, match=r"ca\.key: no such file"):
        start(tmp_path, "node2", bootstrap=3)
