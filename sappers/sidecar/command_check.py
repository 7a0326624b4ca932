"""A health check that is a command: run as the application is, in its root; its exit code counts.

Guests have one place that reaps children, which tells this one how its command ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping

from sappers.sidecar import jail
from sappers.sidecar.application import signal_name
from sappers.sidecar.settings import HealthCheck, Launch


class CommandCheck:
    """Runs the check's command, one at a time."""

    def __init__(
        self, rule: HealthCheck, launch: Launch, environment: Mapping[str, str], *, jailed: bool
    ) -> None:
        """Without `jailed` it runs as whoever runs this (tests)."""
        self._rule = rule
        self._launch = launch
        self._environment = environment
        self._jailed = jailed
        self._pid = 0
        self._status: asyncio.Future[int] | None = None

    async def check(self) -> str:
        """Why the application is not healthy, or empty when it is."""
        self._status = asyncio.get_running_loop().create_future()
        self._pid = os.fork()
        if self._pid == 0:
            self._run_child()
        try:
            async with asyncio.timeout(self._rule.timeout_seconds):
                code = os.waitstatus_to_exitcode(await self._status)
        except TimeoutError:
            return f"{self._rule.command[0]} does not end within {self._rule.timeout_seconds:g} s"
        finally:
            with contextlib.suppress(OSError):
                os.killpg(self._pid, signal.SIGKILL)
        if code < 0:
            return f"{self._rule.command[0]} was killed by {signal_name(-code)}"
        return f"{self._rule.command[0]} ended with exit code {code}" if code else ""

    def ended(self, pid: int, status: int) -> None:
        """A child of this process was reaped."""
        if pid == self._pid and self._status is not None and not self._status.done():
            self._status.set_result(status)

    def _run_child(self) -> None:
        """Never returns; exit codes as a shell gives them."""
        code = 126
        try:
            os.setsid()
            if self._jailed:
                if self._launch.root != "/":
                    os.chroot(self._launch.root)
                    os.chdir("/")
                launch = self._launch
                jail.drop_powers(launch.user_id, launch.group_id, launch.groups)
                os.chdir(launch.folder)
            nothing = os.open("/dev/null", os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            command = self._rule.command
            os.execvpe(command[0], command, dict(self._environment))  # noqa: S606
        except FileNotFoundError:
            code = 127
        except BaseException:  # whatever it is, this process must not go on as PID 1 does
            code = 126
        os._exit(code)
