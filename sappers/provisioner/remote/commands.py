"""Runs one program at a time, passes its output on as it comes, and never outlives the connection.

A program gets a session of its own, so that at its deadline its children are stopped with it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from sappers.provisioner.remote.wire import ConnectionEnded

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
}
CHUNK_BYTES = 64 * 1024
KILL_AFTER_SECONDS = 3.0
# A daemon that a program leaves behind may keep its pipes open: its end is looked for so often.
POLL_SECONDS = 0.1


def own_folder() -> str:
    """Where programs run if nobody says: at home; users without one (nobody) are anywhere."""
    home = os.path.expanduser("~")
    return home if os.path.isdir(home) and os.access(home, os.X_OK) else "/"


class Stopped(Exception):
    """A program did not end in time."""


class Runner:
    """The program that runs now, if any."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = False

    def run(
        self,
        argv: list[str],
        stdin: bytes,
        timeout_seconds: float,
        environment: dict[str, str],
        emit: Callable[[str, bytes], None],
        folder: str = "/",
    ) -> int:
        """Exit code of a program; a signal's number is taken from 128 upwards, as in a shell.

        Raises:
            OSError: There is no such program, or it cannot be started.
            Stopped: It did not end in time; it and its children are gone.
            ConnectionEnded: `close` was called; the same.
        """
        base = {**ENVIRONMENT, "HOME": os.path.expanduser("~")}
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**base, **environment},
            cwd=folder,
            start_new_session=True,
        )
        self._process = process
        try:
            self._pump(process, stdin, time.monotonic() + timeout_seconds, emit)
        finally:
            if process.poll() is None:
                end_session(process)
            self._process = None
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()
        code = process.returncode
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        """Stop what runs; `run` ends soon after."""
        self._closing = True

    def _pump(
        self,
        process: subprocess.Popen[bytes],
        stdin: bytes,
        deadline: float,
        emit: Callable[[str, bytes], None],
    ) -> None:
        with selectors.DefaultSelector() as selector:
            for pipe, name in ((process.stdout, "stdout"), (process.stderr, "stderr")):
                assert pipe is not None
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, name)
            if process.stdin:
                os.set_blocking(process.stdin.fileno(), False)
                selector.register(process.stdin, selectors.EVENT_WRITE, "stdin")
            left = memoryview(stdin)
            while True:
                ended = process.poll() is not None
                open_pipes = [k for k in selector.get_map().values() if k.data != "stdin"]
                events = selector.select(0 if ended else POLL_SECONDS) if open_pipes else []
                for key, _ in events:
                    if key.data == "stdin":
                        left = _feed(selector, key.fileobj, left)
                    else:
                        _drain(selector, key.fileobj, key.data, emit)
                if ended and not any(key.data != "stdin" for key, _ in events):
                    return
                if self._closing:
                    raise ConnectionEnded
                if time.monotonic() > deadline:
                    raise Stopped
                if not open_pipes and not ended:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(POLL_SECONDS)


def _feed(selector: selectors.BaseSelector, pipe: Any, left: memoryview) -> memoryview:
    try:
        left = left[os.write(pipe.fileno(), left[:CHUNK_BYTES]) :]
    except BlockingIOError:
        return left
    except OSError:  # it reads no further
        left = left[:0]
    if not left:
        selector.unregister(pipe)
        with contextlib.suppress(OSError):
            pipe.close()
    return left


def _drain(
    selector: selectors.BaseSelector, pipe: Any, name: str, emit: Callable[[str, bytes], None]
) -> None:
    try:
        data = os.read(pipe.fileno(), CHUNK_BYTES)
    except BlockingIOError:
        return
    if data:
        emit(name, data)
    else:
        selector.unregister(pipe)


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Ask a program and its children to end, then make them."""
    for number, wait_seconds in ((signal.SIGTERM, KILL_AFTER_SECONDS), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_seconds)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
