"""Where other voters connect to, and what is left of it when there are no descriptors any more."""

from __future__ import annotations

import os
import socket

from sappers.errors import SappersError


class SpareDescriptor:
    """A descriptor kept for the day when there is no other: to turn a caller away with it.

    A caller that is left waiting in the listener's queue would keep the event loop awake for ever,
    and learn nothing.
    """

    def __init__(self) -> None:
        self._descriptor = _open_nothing()

    def shed(self, listener: socket.socket) -> bool:
        """Turn one caller away; whether there was one, and a descriptor to do it with."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        try:
            listener.accept()[0].close()
        except OSError:
            return False
        else:
            return True
        finally:
            self._descriptor = _open_nothing()

    def close(self) -> None:
        """Give it back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _open_nothing() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return None


def listen_on(address: tuple[str, int]) -> socket.socket:
    """A socket that other voters connect to.

    Raises:
        SappersError: The address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        listener = socket.create_server(address, family=family)
    except OSError as error:
        raise SappersError(
            f"cannot listen for other voters on {address[0]}:{address[1]}: {error.strerror}",
            hint=f"see who has the port: ss -ltnp 'sport = {address[1]}'",
        ) from error
    # Connections inherit it. asyncio does so only for sockets made with a protocol number; without
    # it an acknowledgement may wait 40 ms for one of the peer's TCP.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)  # noqa: FBT003
    return listener
