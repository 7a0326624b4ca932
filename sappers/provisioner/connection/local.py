"""This machine as a host: the executor as a child process, over pipes instead of SSH."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
from typing import Any

import msgspec
from msgspec.structs import replace

from sappers.provisioner.executor.executor import Executor
from sappers.provisioner.executor.raw_command import RawCommand, run_here
from sappers.provisioner.executor.start import MODULES, TASK_MODULES, Account, start_program
from sappers.provisioner.inventory.host import Host
from sappers.provisioner.modules.step import Completed

END_SECONDS = 5.0


class LocalChannel:
    """What the executor's side needs of a paramiko channel, over a socket pair."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._process: subprocess.Popen[bytes] | None = None

    def set_combine_stderr(self, *, combine: bool) -> None:
        """Both go to one stream, always."""

    def exec_command(self, command: str) -> None:
        """Run a command line in a shell, in a session of its own."""
        end = self._theirs.fileno()
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", command], stdin=end, stdout=end, stderr=end, start_new_session=True
        )
        self._theirs.close()

    def settimeout(self, seconds: float | None) -> None:
        """For what follows; then TimeoutError is raised."""
        self._ours.settimeout(seconds)

    def recv(self, length: int) -> bytes:
        """What has come, empty at the end."""
        try:
            return self._ours.recv(length)
        except ConnectionError:
            return b""

    def send(self, data: bytes) -> int:
        """Send some of it; how much."""
        return self._ours.send(data)

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        self._ours.sendall(data)

    def send_ready(self) -> bool:
        """Whether sending would not wait."""
        return bool(select.select([], [self._ours], [], 0)[1])

    def exit_status_ready(self) -> bool:
        """Whether the command has ended."""
        return self._process is not None and self._process.poll() is not None

    def recv_exit_status(self) -> int:
        """Its exit code."""
        return self._process.wait(END_SECONDS) if self._process else -1

    def shutdown_write(self) -> None:
        """Nothing more is sent."""
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End it; the command sees the end of its input."""
        self.shutdown_write()
        self._ours.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)


class _LocalTransport:
    def open_session(self, timeout: float | None = None) -> LocalChannel:
        del timeout
        return LocalChannel()


class _Here(msgspec.Struct, frozen=True):
    """An account on this machine, with the Python that runs us."""

    name: str
    become: bool
    become_user: str
    become_method: str
    become_password: Any
    python_interpreter: str | None


class LocalConnection:
    """As `Connection`, to this machine."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._executors: list[Executor] = []

    @property
    def user(self) -> str:
        """The user that we are."""
        return os.environ.get("USER") or str(os.geteuid())

    def start_executor(
        self, account: Account | None = None, *, runs_tasks: bool = False
    ) -> Executor:
        """Start the executor. Raises as `Connection.start_executor`."""
        wanted = account or replace(self.host, become=False)
        here = _Here(
            wanted.name,
            wanted.become,
            wanted.become_user,
            wanted.become_method,
            wanted.become_password,
            wanted.python_interpreter or sys.executable,
        )
        transport: Any = _LocalTransport()
        modules = MODULES + TASK_MODULES if runs_tasks else MODULES
        started = start_program(transport, here, modules=modules)
        executor = Executor(
            self.host.name, started.channel, started.rest, started.bytecode, runs_tasks=runs_tasks
        )
        self._executors.append(executor)
        return executor

    def run_raw(self, command: RawCommand) -> Completed:
        """Run a command line in a shell."""
        return run_here(command)

    def close(self) -> None:
        """End the executors; may be called twice."""
        for executor in self._executors:
            executor.close()
