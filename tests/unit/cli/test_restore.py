"""What `restore` asks before a backup's keys are trusted, and how it ends by Ctrl-C."""

from __future__ import annotations

import io
import math
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sappers.cli.backup_file import write_backup
from sappers.cli.exit_codes import ExitCode
from sappers.cli.restore import give_pieces, require_trust, unknown_keys
from sappers.decisions.backup import portable
from sappers.errors import BackupError
from sappers.model.backup import BACKUP_FORMAT, Backup, TakenState
from sappers.model.codec import encode_state, state_as_json
from sappers.model.commands import NoOperation, RestorePiece
from sappers.model.image import ImageKey
from tests.unit.consensus.test_restore_steps import cut, new_cluster, old_cluster
from tests.unit.worlds import commit, founded

COMMAND = str(Path(sys.executable).with_name("sappers-deploy"))
ANNA, BEN = ImageKey("a" * 64, "anna"), ImageKey("b" * 64, "ben")


def asked(*new: ImageKey, trusted: bool = False) -> str:
    shown = io.StringIO()
    require_trust(new, "lab", Console(file=shown), trusted=trusted)
    return shown.getvalue()


def test_a_key_is_known_by_itself_and_not_by_its_owner() -> None:
    assert unknown_keys((ANNA, BEN), (ImageKey("a" * 64, "anna b."),)) == [BEN]
    assert unknown_keys((ANNA,), (ImageKey("c" * 64, "anna"),)) == [ANNA]


def test_keys_that_the_cluster_knows_are_no_question() -> None:
    assert asked() == ""


def test_unknown_keys_are_listed_and_refused_unless_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(BackupError, match="does not trust") as caught:
        asked(ANNA, BEN)
    assert "--trust-image-keys" in str(caught.value.hint)
    shown = asked(ANNA, BEN, trusted=True)
    assert f"{ANNA.key} anna" in shown
    assert f"{BEN.key} ben" in shown


class Cluster:
    """Takes pieces; until it is `right`, another member's clock is two hours ahead."""

    def __init__(self, right_after: float) -> None:
        self.state = new_cluster()
        self.pieces = 0
        self.right_after = right_after

    def give_piece(self, piece: RestorePiece) -> None:
        self.state, outcome = commit(self.state, piece, time=1000.0)
        assert outcome.refused == ""
        self.pieces += 1
        if self.pieces < self.right_after:
            self.state, _ = commit(self.state, NoOperation(), time=8200.0)

    def state_json(self) -> bytes:
        return state_as_json(self.state)


def test_pieces_that_were_given_up_meanwhile_are_given_again_or_missed() -> None:
    pieces = cut(portable(old_cluster()), 3)
    for right_after in (0, 3, 5):
        cluster = Cluster(right_after)
        give_pieces(cluster, pieces)
        assert cluster.state.restored == pieces[0].digest
    with pytest.raises(BackupError, match="nothing is restored"):
        give_pieces(Cluster(math.inf), pieces)


def test_ctrl_c_says_how_all_was_left_and_that_it_goes_on(tmp_path: Path) -> None:
    state, file, hosts = portable(founded()), tmp_path / "lab.backup", tmp_path / "hosts.ini"
    made = Backup(BACKUP_FORMAT, 1.0, "lab", TakenState(state.index, encode_state(state), ()))
    write_backup(file, made, state.events)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a host whose SSH never says a word
        silent.settimeout(30.0)
        port = silent.getsockname()[1]
        hosts.write_text(f"lab1 ansible_host=127.0.0.1 ansible_port={port}\n")
        with subprocess.Popen(
            [COMMAND, "restore", str(file), str(hosts)],
            env=os.environ | {"SAPPERS_HOME": str(tmp_path / "home")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as command:
            host, _ = silent.accept()
            command.send_signal(signal.SIGINT)
            host.close()
            assert command.stderr is not None
            said = command.stderr.read().decode()
            assert command.wait() == ExitCode.INTERRUPTED
    assert "interrupted: the hosts may be no whole cluster yet; nothing is restored; run" in said
    assert "it goes on" in said
