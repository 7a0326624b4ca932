"""Where the application finds the sidecar: a socket in the root that the application has.

It is bound before the application runs, so that nothing of it can be in the way; who connects is
served once the guest is.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from sappers.sidecar.log import say
from sappers.sidecar.message import SOCKET_PATH

_BACKLOG = 16


def open_listener(root: str = "/", path: str = SOCKET_PATH) -> socket.socket | None:
    """The listening socket; None, and a line in the log, where the machine has none to give."""
    try:
        with _inside(root):
            return _listen(path)
    except OSError as error:
        say("no-socket", reason=str(error))
        return None


def _listen(path: str) -> socket.socket:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        with contextlib.suppress(OSError):
            Path(path).chmod(0o666)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _inside(root: str) -> Iterator[None]:
    """Have paths mean what they mean below a root; a container's links must not lead out."""
    if root == "/":
        yield
        return
    outside = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chroot(root)
        os.chdir("/")
        yield
    finally:
        os.fchdir(outside)
        os.chroot(".")
        os.close(outside)
