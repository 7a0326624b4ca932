"""Carries bytes between sockets here and channels of an SSH connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec
import paramiko

CHUNK_BYTES = 64 * 1024
DIAL_SECONDS = 10.0
SHUT_WRITE = 1


class Gate(Protocol):
    """Decides what of a host's bytes goes on."""

    def admit(self, data: bytes) -> bytes:
        """What may go on of all that came so far; raises ValueError to end the connection."""


def join_streams(
    channel: paramiko.Channel, stream: socket.socket, gate: Gate | None = None, refusal: bytes = b""
) -> None:
    """Carry bytes both ways until both have ended; returns at once.

    Args:
        channel: The host's end.
        stream: This side's end.
        gate: What the host says passes it first.
        refusal: What the host is told when the gate ends the connection.
    """
    stream.settimeout(None)
    channel.settimeout(None)
    halves = threading.Semaphore(0)

    def finish() -> None:
        halves.acquire()
        halves.acquire()
        channel.close()
        stream.close()

    def refuse() -> None:
        with contextlib.suppress(OSError, EOFError):
            channel.sendall(refusal)
        stream.shutdown(socket.SHUT_RDWR)

    _start(_carry, channel, stream, halves, gate, refuse)
    _start(_carry, stream, channel, halves)
    _start(finish)


def _start(work: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=work, args=arguments, daemon=True).start()


def _carry(
    source: socket.socket | paramiko.Channel,
    sink: socket.socket | paramiko.Channel,
    halves: threading.Semaphore,
    gate: Gate | None = None,
    refuse: Callable[[], None] = lambda: None,
) -> None:
    try:
        while data := source.recv(CHUNK_BYTES):
            sink.sendall(data if gate is None else gate.admit(data))
    except OSError:
        pass
    except ValueError:
        with contextlib.suppress(OSError):
            refuse()
    with contextlib.suppress(OSError, EOFError):
        sink.shutdown(SHUT_WRITE)  # the other half may still have to say something
    halves.release()


class Tunnel(msgspec.Struct, frozen=True):
    """Where connections that a host opens lead to.

    Attributes:
        to: Address and port on this side.
        gate: Makes, for each connection, what the host's bytes must pass.
        refusal: What the host is told when its gate ends a connection.
    """

    to: tuple[str, int]
    gate: Callable[[], Gate] | None = None
    refusal: bytes = b""


def dial_and_join(channel: paramiko.Channel, tunnel: Tunnel) -> None:
    """Connect a channel that the host opened to this side's end of its tunnel; returns at once."""

    def work() -> None:
        try:
            stream = socket.create_connection(tunnel.to, timeout=DIAL_SECONDS)
        except OSError:
            channel.close()
            return
        gate = tunnel.gate() if tunnel.gate else None
        join_streams(channel, stream, gate, tunnel.refusal)

    _start(work)


@contextlib.contextmanager
def listen_and_join(dial: Callable[[], paramiko.Channel]) -> Iterator[tuple[str, int]]:
    """A port on this machine's loopback; each connection to it gets a channel from `dial`.

    Yields:
        Address and port.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                stream, _ = listener.accept()
            except OSError:  # closed: the end
                return
            _start(serve, stream)

    def serve(stream: socket.socket) -> None:
        try:
            channel = dial()
        except (paramiko.SSHException, OSError, EOFError):
            stream.close()
            return
        join_streams(channel, stream)

    _start(accept)
    try:
        yield listener.getsockname()[:2]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        listener.close()
