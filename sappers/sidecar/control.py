"""The control port: one JSON object a line, each answered by one, over virtio-serial.

The member connects to the other end when it has something to say and may vanish at any time, an
agent restart for one; so reading the end of the file only means that nobody is there now.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sappers.sidecar.settings import Configuration, read_configuration

PORT_NAME = "sappers.control"
_LINE_BYTES_MAX = 1 << 20
_ANNOUNCE_SECONDS = 0.5
_POLL_SECONDS = 0.02


def find_port(
    name: str = PORT_NAME, folder: str = "/sys/class/virtio-ports", wait_seconds: float = 10.0
) -> str:
    """The device path of the named virtio-serial port.

    QEMU tells a port's name some time after the port itself has appeared.

    Raises:
        FileNotFoundError: The machine has none.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        for file in sorted(Path(folder).glob("*/name")):
            with contextlib.suppress(OSError):
                if file.read_text().strip() == name:
                    return f"/dev/{file.parent.name}"
        if time.monotonic() >= deadline:
            raise FileNotFoundError(f"no virtio-serial port is called {name}")
        time.sleep(_POLL_SECONDS)


class ControlPort:
    """One end of the control port; never blocks but in `wait_for_message`."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._pending = b""

    def fileno(self) -> int:
        """For `select` and event loops."""
        return self._fd

    def signal_changes(self) -> None:
        """Have the kernel send SIGIO when the member connects or goes."""
        fcntl.fcntl(self._fd, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | os.O_ASYNC)

    def receive(self) -> tuple[list[dict[str, Any]], bool]:
        """All whole messages that are there, and whether the member is still connected."""
        connected = True
        while len(self._pending) < _LINE_BYTES_MAX:
            try:
                chunk = os.read(self._fd, 65536)
            except BlockingIOError:
                break
            if not chunk:
                connected = False
                break
            self._pending += chunk
        *lines, self._pending = self._pending.split(b"\n")
        if not connected or len(self._pending) >= _LINE_BYTES_MAX:
            self._pending = b""  # half a line of a member that is gone, or no line at all
        return [message for line in lines if (message := _parse(line)) is not None], connected

    def send(self, message: dict[str, Any]) -> None:
        """Answer; dropped when nobody listens."""
        with contextlib.suppress(OSError):
            os.write(self._fd, json.dumps(message).encode() + b"\n")

    def wait_for_message(self) -> list[dict[str, Any]]:
        """Block until messages come, before there is an event loop; says that it waits."""
        arrivals = select.poll()
        arrivals.register(self._fd, select.POLLIN)
        while True:
            messages, connected = self.receive()
            if messages:
                return messages
            if connected:
                self.send({"waiting": True})
                arrivals.poll(_ANNOUNCE_SECONDS * 1000)
            else:  # the port is as if hung up: poll would not wait
                time.sleep(_POLL_SECONDS)

    def wait_for_configuration(
        self, prepare: Callable[[], None], switch_off: Callable[[], None]
    ) -> Configuration:
        """Block until the member says who this guest is.

        Args:
            prepare: Called when the guest is about to be saved as a checkpoint; the configuration
                comes later, to each clone another.
            switch_off: Called when there is nothing more to do.

        A rehearsal is read as a configuration is, and forgotten: a machine that is emulated is
        slow at whatever it does for the first time.
        """
        while True:
            for message in self.wait_for_message():
                if message.get("shutdown"):
                    self.send({"ok": True})
                    switch_off()
                    continue
                if message.get("prepare"):
                    prepare()
                    self.send({"ok": True, "prepared": True})
                    continue
                asked = "rehearse" if "rehearse" in message else "configure"
                try:
                    configuration = read_configuration(message[asked])
                except (KeyError, TypeError, ValueError) as error:
                    reason = f"not a configuration: {type(error).__name__}: {error}"
                    self.send({"ok": False, "reason": reason})
                else:
                    self.send({"ok": True})
                    if asked == "configure":
                        return configuration


def _parse(line: bytes) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        message = json.loads(line)
        if isinstance(message, dict):
            return message
    return None
