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

from sappers.sidecar.randomness import reseed_process

APPLICATION_FOLDER = "/app"
_USER_ID = 1000


class ApplicationProcess:
    """The application as a child of PID 1.

    It is forked before any configuration arrives, so that it never holds the guest's credentials,
    and waits on a pipe for its environment. A fork starts much faster than a new interpreter.
    What it imports while it waits, a checkpoint holds already.

    Args:
        module: Run as `__main__`.
        preload: Modules to import before the configuration comes.
    """

    def __init__(self, module: str, preload: Iterable[str] = ()) -> None:
        reader, self._writer = os.pipe()
        self._ready, ready = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._writer)
            os.close(self._ready)
            _run_child(module, tuple(preload), reader, ready)
        os.close(reader)
        os.close(ready)
        self.exit_text = ""

    def wait_until_ready(self) -> None:
        """Return once it has imported what it may before it is told who it is."""
        os.read(self._ready, 1)  # or it ended: then this is the end of the pipe

    def start(self, environment: Mapping[str, str]) -> None:
        """Let it run with just this environment."""
        with os.fdopen(self._writer, "wb") as pipe:
            pipe.write(json.dumps(dict(environment)).encode())

    @property
    def alive(self) -> bool:
        """Whether it has not been reaped yet."""
        return not self.exit_text

    def ended(self, wait_status: int) -> None:
        """Record how it ended, as `waitpid` said."""
        code = os.waitstatus_to_exitcode(wait_status)
        self.exit_text = (
            f"the application was killed by {signal.Signals(-code).name}"
            if code < 0
            else f"the application ended with exit code {code}"
        )

    def send_signal(self, number: int) -> None:
        """Signal it and all its children."""
        if self.alive:
            os.killpg(self.pid, number)


def _run_child(module: str, preload: tuple[str, ...], reader: int, ready: int) -> None:
    """Never returns. Drops root, waits for the environment, runs the module as `__main__`."""
    status = 1
    try:
        os.setsid()
        os.setgroups([])
        os.setgid(_USER_ID)
        os.setuid(_USER_ID)
        os.chdir(APPLICATION_FOLDER)
        _preload(preload)
        os.write(ready, b".")
        os.close(ready)
        with os.fdopen(reader, "rb") as pipe:
            environment = json.loads(pipe.read())
        reseed_process()
        os.environ.clear()
        os.environ.update(environment)
        import runpy  # loaded already; only this process needs it

        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as request:
        status = request.code if isinstance(request.code, int) else int(request.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _preload(modules: tuple[str, ...]) -> None:
    for module in ("runpy", *modules):
        with contextlib.suppress(Exception):  # the application will say it better
            importlib.import_module(module)
    gc.freeze()  # clones of a checkpoint go on sharing these pages
