"""The application: a process of its own, or a coroutine inside the sidecar."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping

APPLICATION_FOLDER = "/app"
_USER_ID = 1000


class ApplicationProcess:
    """The application as a child of PID 1.

    It is forked before any configuration arrives, so that it never holds the guest's credentials,
    and waits on a pipe for its environment. A fork starts much faster than a new interpreter.
    """

    def __init__(self, module: str) -> None:
        reader, self._writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._writer)
            _run_child(module, reader)
        os.close(reader)
        self.exit_text = ""

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


def _run_child(module: str, reader: int) -> None:
    """Never returns. Waits for the environment, drops root, runs the module as `__main__`."""
    status = 1
    try:
        os.setsid()
        with os.fdopen(reader, "rb") as pipe:
            environment = json.loads(pipe.read())
        os.environ.clear()
        os.environ.update(environment)
        os.setgroups([])
        os.setgid(_USER_ID)
        os.setuid(_USER_ID)
        os.chdir(APPLICATION_FOLDER)
        import runpy  # only the child needs it

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
