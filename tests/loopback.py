"""Addresses and ports of loopback that are this run's own: runs side by side do not meet."""

from __future__ import annotations

import itertools
import os
import socket

# Below those that the kernel gives to whoever asks for any, for a connection to somebody, too: one
# of these stays free until it is used.
_FIRST, _COUNT = 12_100, 4_000
_next = itertools.count(os.getpid() * 61)


def own_network(number: int = 0) -> str:
    """The first three numbers of addresses; `number` (0 or 1) tells networks of one run apart."""
    pid = os.getpid()
    return f"127.{pid // 250 % 100 + 20 + 100 * number}.{pid % 250}."


def free_port() -> int:
    """A port that nobody has on any address, and that this was not answered before."""
    for number in itertools.islice(_next, _COUNT):
        port = _FIRST + number % _COUNT
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port from {_FIRST} on is free")
