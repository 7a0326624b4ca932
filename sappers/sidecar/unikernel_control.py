"""The control port of a guest that has no virtio-serial: a TCP connection that QEMU takes.

Whatever is sent to this address of the guest's own network comes out of a socket on the host; no
other guest and no other program is on it. QEMU hangs up when nobody is at the other end.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Any

from sappers.sidecar.control import ControlPort

ADDRESS = ("10.0.2.100", 1)
_RETRY_SECONDS = 0.05
_CONNECT_SECONDS = 5.0


class TcpControlPort(ControlPort):
    """The same messages as over virtio-serial; connects again whenever the line is cut."""

    def __init__(self, address: tuple[str, int] = ADDRESS) -> None:
        self._address = address
        self._pending = b""
        self._connect()

    def signal_changes(self) -> None:
        """Nothing to ask for: a socket tells its reader."""

    def receive(self) -> tuple[list[dict[str, Any]], bool]:
        """All whole messages that are there; always connected, to a new line if need be."""
        try:
            messages, connected = super().receive()
        except ConnectionError:
            messages, connected = [], False
        if not connected:
            os.close(self._fd)
            self._pending = b""
            self._connect()
        return messages, True

    def _connect(self) -> None:
        """Return once connected; the network may not be up yet."""
        while True:
            with contextlib.suppress(OSError):
                line = socket.create_connection(self._address, _CONNECT_SECONDS)
                line.settimeout(0.0)
                self._fd = line.detach()
                return
            time.sleep(_RETRY_SECONDS)
