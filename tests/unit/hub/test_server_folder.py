"""What nats-server may read and write: its own, whatever an earlier version or it itself left."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sappers.config import HUB_USER_ID
from sappers.errors import HubError
from sappers.hub.server_folder import ServerFolder, open_log
from sappers.security.tls import Identity
from tests.identities import make_cluster_identities

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return make_cluster_identities(tmp_path, ["a"])["a"]


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    folder = tmp_path / "state" / "hub"
    folder.mkdir(parents=True)
    (folder / "account.jwt").write_text("the agent's own")
    return folder


def leave_as_before(hub: Path, word: str) -> None:
    """As a server that wrote to STATE_DIR/hub itself."""
    for store in ("jetstream", "alone/jetstream", "jetstream-left"):
        (hub / store).mkdir(parents=True)
        (hub / store / "1.blk").write_text(word)
    for name in ("nats-server.log", "nats-server.log.2026", "output.log", "nats-server.conf"):
        (hub / name).write_text(word)


def owner(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def test_what_a_server_of_before_kept_is_kept_and_what_it_said_is_not(
    hub: Path, identity: Identity
) -> None:
    folder = ServerFolder(hub, identity)
    leave_as_before(hub, "first")
    assert folder.is_of_before()
    for _ in range(2):
        folder.hand_over()
        assert not folder.is_of_before()
        assert (folder.store / "1.blk").read_text() == "first"
        assert (folder.alone / "jetstream" / "1.blk").read_text() == "first"
        assert {one.name for one in hub.iterdir()} == {"account.jwt", "server"}
    leave_as_before(hub, "an older agent's, which came back in between")
    folder.hand_over()
    assert (folder.store / "1.blk").read_text().startswith("an older")


def test_who_comes_back_begins_with_an_empty_store(hub: Path, identity: Identity) -> None:
    folder = ServerFolder(hub, identity)
    leave_as_before(hub, "first")
    folder.put_store_aside()
    assert not folder.store.exists()
    assert (folder.data / "jetstream-left" / "1.blk").read_text() == "first"
    folder.put_store_aside()


@as_root
def test_all_that_it_keeps_is_its_own_and_what_it_reads_is_not(
    hub: Path, identity: Identity, tmp_path: Path
) -> None:
    folder = ServerFolder(hub, identity, HUB_USER_ID)
    leave_as_before(hub, "first")
    settings = folder.write("nats-server.conf", b"{}")
    secret = tmp_path / "secret"
    secret.write_text("root's")
    folder.hand_over()
    (folder.data / "link").symlink_to(secret)
    folder.hand_over()
    for kept in (folder.data, *folder.data.rglob("*")):
        assert owner(kept)[:2] == (HUB_USER_ID, HUB_USER_ID), kept
    assert owner(secret)[:2] == (0, 0)
    shown = folder.identity
    for told in (settings, shown.ca, shown.cert, shown.key):
        assert owner(told) == (0, HUB_USER_ID, 0o640)
    assert owner(folder.path) == (0, HUB_USER_ID, 0o750)
    assert shown.key.read_bytes() == identity.key.read_bytes()
    assert owner(identity.key)[2] == 0o600


@as_root
def test_a_renewed_certificate_is_shown(hub: Path, identity: Identity) -> None:
    folder = ServerFolder(hub, identity, HUB_USER_ID)
    folder.write("nats-server.conf", b"{}")
    identity.cert.write_text("renewed")
    folder.write("nats-server.conf", b"{}")
    assert folder.identity.cert.read_text() == "renewed"


def test_without_a_user_of_its_own_it_reads_the_members_files(
    hub: Path, identity: Identity
) -> None:
    folder = ServerFolder(hub, identity)
    assert folder.identity == identity
    assert stat.S_IMODE(folder.write("nats-server.conf", b"{}").stat().st_mode) == 0o600
    assert folder.unit("u", Path("/bin/x"), Path("/y"), "").alone_in == ""


def test_a_server_with_a_user_of_its_own_sees_its_folder_alone(
    hub: Path, identity: Identity
) -> None:
    folder = ServerFolder(hub, identity, HUB_USER_ID)
    spec = folder.unit("sappers-hub", Path("/bin/x"), folder.path / "nats-server.conf", "")
    assert (spec.user_id, spec.alone_in) == (HUB_USER_ID, str(hub.parent))
    assert (spec.working_directory, spec.writes) == (str(folder.path), str(folder.data))


def test_a_certificate_that_is_missing_is_told(hub: Path, identity: Identity) -> None:
    identity.key.unlink()
    with pytest.raises(HubError, match="No such file"):
        ServerFolder(hub, identity, os.getgid()).write("nats-server.conf", b"{}")


def test_nothing_but_a_log_is_read_as_one(tmp_path: Path) -> None:
    secret, link, pipe = tmp_path / "secret", tmp_path / "link", tmp_path / "pipe"
    secret.write_text("root's")
    link.symlink_to(secret)
    os.mkfifo(pipe)
    for planted in (link, pipe, tmp_path):
        with pytest.raises(OSError):
            open_log(planted)
    with open_log(secret) as log:
        assert log.read() == b"root's"
