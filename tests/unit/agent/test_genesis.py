from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from sappers.agent.voting.genesis import (
    check_raft_folder,
    load_genesis,
    note_raft_started,
    save_genesis,
)
from sappers.config import StateFolder
from sappers.errors import IdentityError, LogDamaged
from sappers.model.view import Genesis

GENESIS = Genesis("c1", "m1", ("m1", "m2"), {"m1": "10.0.0.1:12000", "m2": "10.0.0.2:12000"})


def test_it_is_written_once_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    assert load_genesis(path) is None
    save_genesis(path, GENESIS, "m2")
    save_genesis(path, GENESIS, "m2")
    with pytest.raises(IdentityError, match="belongs to cluster c1 already"):
        save_genesis(path, msgspec.structs.replace(GENESIS, cluster_id="c2"), "m2")
    assert load_genesis(path) == GENESIS
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_member_that_is_not_named_does_not_take_it(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="m9 is none of the voters"):
        save_genesis(tmp_path / "genesis.json", GENESIS, "m9")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"cluster_id": 3}', b'{"cluster_id": "\xff"}'])
def test_a_damaged_one_is_refused_not_taken_for_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "genesis.json"
    path.write_bytes(content)
    with pytest.raises(LogDamaged, match=r"genesis\.json"):
        load_genesis(path)
    with pytest.raises(LogDamaged):
        save_genesis(path, GENESIS, "m1")


@pytest.mark.parametrize("lacking", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_one_that_cannot_be_read_just_now_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: int
) -> None:
    path = tmp_path / "genesis.json"
    save_genesis(path, GENESIS, "m1")

    def fail(_: Path) -> bytes:
        raise OSError(lacking, os.strerror(lacking))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match=os.strerror(lacking)):
        load_genesis(path)
    lacking = errno.EIO
    with pytest.raises(LogDamaged, match=r"genesis\.json"):
        load_genesis(path)


def test_a_voter_whose_raft_folder_is_gone_does_not_vote_again(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.raft.mkdir()
    check_raft_folder(folder)
    (folder.raft / "journal").touch()
    note_raft_started(folder)
    check_raft_folder(folder)
    (folder.raft / "journal").unlink()
    with pytest.raises(LogDamaged, match="is empty, but this member has voted before"):
        check_raft_folder(folder)
