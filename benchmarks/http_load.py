"""Many requests over several connections, and what became of each."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

ANSWER_SECONDS = 15.0


@dataclass
class Load:
    """What became of the requests so far.

    Attributes:
        seconds: How long each good answer took, from the request's first byte; connecting counts
            where the connection was made for it.
        failures: Why requests failed, and how many.
        bodies: Answers by body.
    """

    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    bodies: Counter[bytes] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """How many requests did not get their answer."""
        return sum(self.failures.values())

    @property
    def count(self) -> int:
        """How many requests there were."""
        return len(self.seconds) + self.failed

    def percentile_ms(self, share: float) -> float:
        """So many of the good answers came within it, in milliseconds."""
        ranked = sorted(self.seconds)
        return 1000 * ranked[min(int(share * len(ranked)), len(ranked) - 1)]


async def send(
    load: Load, host: str, port: int, path: str, *, until: asyncio.Event, keep_alive: bool
) -> None:
    """One request after the other, until the event is set. None is sent twice."""
    connection: _Connection | None = None
    while not until.is_set():
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if connection is None:
                    connection = await _Connection.open(host, port)
                status, body, lasting = await connection.get(host, path, keep_alive=keep_alive)
        except OSError as error:  # TimeoutError is one
            load.failures[f"{type(error).__name__}: {error}"] += 1
            _close(connection)
            connection = None
            continue
        if status == 200:
            load.seconds.append(time.perf_counter() - begun)
            load.bodies[body] += 1
        else:
            load.failures[f"status {status}"] += 1
        if not lasting:
            _close(connection)
            connection = None
    _close(connection)


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, host: str, port: int) -> _Connection:
        return cls(*await asyncio.open_connection(host, port))

    async def get(self, host: str, path: str, *, keep_alive: bool) -> tuple[int, bytes, bool]:
        """Status, body, and whether the connection lasts."""
        more = "" if keep_alive else "Connection: close\r\n"
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode())
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            body = await self._reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise ConnectionError(f"closed after {len(error.partial)} bytes") from None
        return int(head.split(maxsplit=2)[1]), body, b"connection: close" not in head

    def close(self) -> None:
        self._writer.close()


def _close(connection: _Connection | None) -> None:
    if connection is not None:
        connection.close()
