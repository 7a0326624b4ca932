"""How commands end when somebody ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sappers.cli.exit_codes import ExitCode

COMMAND = """\
import os, tempfile, typer
from sappers.cli.ending import interrupted_by_signals, run_to_the_end
app = typer.Typer()
@app.command()
def build():
    with interrupted_by_signals(), tempfile.TemporaryDirectory(dir=os.environ["MADE"]):
        print("begun", flush=True)
        print(input(), flush=True)
run_to_the_end(app)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_what_a_command_made_goes_when_it_is_ended(how: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        env=os.environ | {"MADE": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as command:
        assert command.stdout is not None and command.stderr is not None
        assert command.stdout.readline() == b"begun\n"
        assert list(tmp_path.iterdir())
        command.send_signal(how)

        assert command.wait() == ExitCode.INTERRUPTED
        assert command.stderr.read() == b""
    assert not list(tmp_path.iterdir())


def test_who_ignores_a_hangup_goes_on(tmp_path: Path) -> None:
    with subprocess.Popen(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", sys.executable, "-c", COMMAND],
        env=os.environ | {"MADE": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as command:
        assert command.stdin is not None and command.stdout is not None
        assert command.stdout.readline() == b"begun\n"
        command.send_signal(signal.SIGHUP)
        command.stdin.write(b"goes on\n")
        command.stdin.close()

        assert command.stdout.read() == b"goes on\n"
        assert command.wait() == ExitCode.OK


# As if it came right before the main thread begins to wait: another thread hears it.
UNHEARD = """\
import signal, threading
from sappers.cli.ending import ended_at_once_by_ctrl_c
def interrupt():
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
with ended_at_once_by_ctrl_c("cut off"):
    threading.Timer(0.5, interrupt).start()
    threading.Event().wait(60)
"""


def test_ctrl_c_is_heard_where_the_main_thread_has_just_begun_to_wait() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNHEARD], capture_output=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (ExitCode.INTERRUPTED, b"\ncut off")
