"""The application: a process of its own, or a coroutine inside the sidecar."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from sappers.sidecar import jail
from sappers.sidecar.log import say
from sappers.sidecar.python_program import prepared, run_python
from sappers.sidecar.randomness import reseed_process
from sappers.sidecar.settings import Launch

# What runs it; and what Python needs for the name of any host.
_PRELOADED = ("runpy", "encodings.idna")


class ApplicationProcess:
    """The application as a child of PID 1.

    It is forked before any configuration arrives, so that it never holds the guest's credentials,
    and waits on a pipe for its environment. A fork starts much faster than a new interpreter.
    What it imports while it waits, a checkpoint holds already.

    Args:
        application: Module to run as `__main__`, or the path of a script or program.
        preload: Modules to import before the configuration comes.
        launch: How to run it.

    Attributes:
        pid: Its process.
        prepared: Whether it got ready to be saved, in this guest or in the one that this was
            cloned from.
        exit_text: How it ended; empty as long as it lives.
    """

    def __init__(
        self, application: str, preload: Iterable[str] = (), launch: Launch | None = None
    ) -> None:
        reader, self._writer = os.pipe()
        self._ready, ready = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._writer)
            os.close(self._ready)
            _run_child(application, tuple(preload), launch or Launch(), reader, ready)
        os.close(reader)
        os.close(ready)
        self.prepared = False
        self.exit_text = ""

    def prepare(self, environment: Mapping[str, str]) -> None:
        """Have it get ready to be saved, with this for its environment; returns once it is."""
        self.prepared = True
        self._tell({"prepare": dict(environment)})
        os.read(self._ready, 1)  # or it ended: then this is the end of the pipe

    def start(self, environment: Mapping[str, str]) -> None:
        """Let it run with just this environment."""
        # No file object: making one is work for a clone, which has not answered anybody yet.
        self._tell({"environment": dict(environment), "reseed": self.prepared})
        os.close(self._writer)

    def _tell(self, word: Mapping[str, Any]) -> None:
        # One that has ended already is told of when it is reaped, as any other.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._writer, json.dumps(word).encode() + b"\n")

    @property
    def alive(self) -> bool:
        """Whether it has not been reaped yet."""
        return not self.exit_text

    def ended(self, wait_status: int) -> None:
        """Record how it ended, as `waitpid` said."""
        code = os.waitstatus_to_exitcode(wait_status)
        self.exit_text = (
            f"the application was killed by {signal_name(-code)}"
            if code < 0
            else f"the application ended with exit code {code}"
        )

    def send_signal(self, number: int) -> None:
        """Signal it and all its children."""
        if self.alive:
            os.killpg(self.pid, number)


def _run_child(
    application: str, preload: tuple[str, ...], launch: Launch, reader: int, ready: int
) -> None:
    """Never returns. Drops root, waits for the environment, runs the application."""
    status, run = 1, None
    try:
        os.setsid()
        _enter(launch)
        if launch.kind != "program":
            _preload(preload)
        with os.fdopen(reader, "rb") as pipe:
            word = json.loads(pipe.readline())
            if "prepare" in word:
                _replace_environment(word["prepare"])
                if launch.prepare:
                    with contextlib.suppress(Exception):  # the guest itself will say what is wrong
                        run = prepared(application, launch)
                reseed_process()  # the first time takes a tenth of a second
                gc.freeze()  # clones of a checkpoint go on sharing these pages
                os.write(ready, b".")
                word = json.loads(pipe.readline())
        os.close(ready)
        if word["reseed"]:
            reseed_process()
        _replace_environment(word["environment"])
        if launch.kind == "program":
            status = _execute(application, launch.arguments)
        else:
            run_python(application, launch, run)
            status = 0
    except SystemExit as request:
        status = request.code if isinstance(request.code, int) else int(request.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _enter(launch: Launch) -> None:
    """Be where the application runs, as whom it runs."""
    jail.open_low_ports()
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    if launch.root != "/":
        jail.furnish(launch.root)
        os.chroot(launch.root)
        os.chdir("/")
    jail.drop_powers(launch.user_id, launch.group_id, launch.groups)
    os.chdir(launch.folder)


def _execute(program: str, arguments: tuple[str, ...]) -> int:
    """Never returns, but when the program cannot be run: the exit code a shell would give."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores them, and would bequeath that
    try:
        os.execvp(program, (program, *arguments))  # noqa: S606 - no shell is wanted
    except OSError as error:
        say("application-cannot-run", program=program, reason=error.strerror)
        return 127 if isinstance(error, FileNotFoundError) else 126


def _replace_environment(variables: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def signal_name(number: int) -> str:
    """What a signal is called; most of the real-time ones have a number alone."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _preload(modules: tuple[str, ...]) -> None:
    for module in (*_PRELOADED, *modules):
        with contextlib.suppress(Exception):  # the application will say it better
            importlib.import_module(module)
