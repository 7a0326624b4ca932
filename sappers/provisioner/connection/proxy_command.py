"""OpenSSH's ProxyCommand: a program whose input and output are the way to a server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess

_SAID_BYTES = 2000
_END_SECONDS = 5.0


class ProxiedSocket(socket.socket):
    """A program as a socket; closing it ends the program.

    Attributes:
        said: The end of what it wrote to stderr, on one line; once it is closed.
    """

    def __init__(self, command: str) -> None:
        """Start it.

        Args:
            command: A command line for the shell.
        """
        self.said = ""
        ours, theirs = socket.socketpair()
        self._errors = os.memfd_create("errors")  # as long as it likes, and read by nobody
        with theirs:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._errors,
                start_new_session=True,  # asks nothing at our terminal, nor hears its Ctrl-C
            )
        super().__init__(fileno=ours.detach())

    def close(self) -> None:
        """End it; may be called twice."""
        if self.fileno() == -1:
            return
        super().close()
        length = os.fstat(self._errors).st_size
        data = os.pread(self._errors, _SAID_BYTES, max(0, length - _SAID_BYTES))
        self.said = " ".join(data.decode("utf-8", "replace").split())
        os.close(self._errors)
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
