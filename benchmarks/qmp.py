"""QEMU's control protocol over a blocking socket: just what starting a guest by hand takes."""

from __future__ import annotations

import array
import json
import socket
import time
from pathlib import Path
from typing import Any, Self

_CONNECT_SECONDS, _ANSWER_SECONDS = 30.0, 120.0
_LOOK_SECONDS = 0.001


class Qmp:
    """One connection."""

    def __init__(self, path: Path) -> None:
        self._socket = connect(path)
        self._lines = self._socket.makefile("rb")
        self._lines.readline()  # who it is
        self.execute("qmp_capabilities")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def execute(self, command: str, descriptor: int | None = None, **arguments: Any) -> Any:
        """What a command returns; a file descriptor may go with it."""
        line = json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
        passed = []
        if descriptor is not None:
            passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        self._socket.sendmsg([line], passed)
        while answer := self._lines.readline():
            message = json.loads(answer)
            if "error" in message:
                raise RuntimeError(f"{command}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]
        raise RuntimeError(f"{command}: QEMU ended")

    def publish(self, command_line: str) -> None:
        """Open a port, which QEMU does for people alone: what goes wrong is what it prints."""
        arguments: dict[str, Any] = {"command-line": command_line}
        if problem := self.execute("human-monitor-command", **arguments):
            raise RuntimeError(f"{command_line}: {problem}")

    def await_migration(self) -> None:
        """Until a machine's state is out, or in."""
        deadline = time.monotonic() + _ANSWER_SECONDS
        while (status := self.execute("query-migrate").get("status")) != "completed":
            if status == "failed" or time.monotonic() > deadline:
                raise RuntimeError(f"migration: {status}")
            time.sleep(_LOOK_SECONDS)


def connect(path: Path) -> socket.socket:
    """A connection to a Unix socket that may not be there yet."""
    deadline = time.monotonic() + _CONNECT_SECONDS
    while True:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_ANSWER_SECONDS)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_SECONDS)
        else:
            return connection
