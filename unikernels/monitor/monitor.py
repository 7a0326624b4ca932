"""The monitor: hears the health that guests push and serves it as metrics, text of Prometheus.

It hears what its credentials allow; with those of an ordinary guest that is its own health only.
Alerts come later.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sappers.model import subjects

if TYPE_CHECKING:
    from sappers.sidecar.guest import Guest

_REQUEST_SECONDS = 5.0
_FORGET_SECONDS = 3600.0
_HEADER_BYTES_MAX = 16384


@dataclass
class Seen:
    """What is known of one guest."""

    boot_id: str = ""
    sequence: int = -1
    healthy: bool = False
    pushes: int = 0
    boots: int = 0
    heard_at: float = 0.0


@dataclass
class Gathered:
    """What was pushed, by guest."""

    guests: dict[str, Seen] = field(default_factory=dict)
    unreadable: int = 0

    def push(self, subject: str, payload: bytes, now: float) -> None:
        """Take in one push; one that came before, or makes no sense, changes nothing else."""
        try:
            push = json.loads(payload)
            boot_id, sequence = str(push["boot_id"]), int(push["sequence"])
            healthy = bool(push["healthy"])
        except (ValueError, KeyError, TypeError):
            self.unreadable += 1
            return
        seen = self.guests.setdefault(subjects.allocation_of(subject), Seen())
        if boot_id != seen.boot_id:
            seen.boot_id, seen.sequence, seen.boots = boot_id, -1, seen.boots + 1
        if sequence > seen.sequence:
            seen.sequence, seen.healthy, seen.heard_at = sequence, healthy, now
            seen.pushes += 1

    def metrics(self, now: float) -> str:
        """Everything as Prometheus reads it; guests long silent are forgotten."""
        for name in [n for n, s in self.guests.items() if now - s.heard_at > _FORGET_SECONDS]:
            del self.guests[name]
        guests = sorted(self.guests.items())
        rows: list[tuple[str, str, str, list[tuple[str, Any]]]] = [
            ("guest_healthy", "gauge", "Whether the last push said so.",
             [(name, int(seen.healthy)) for name, seen in guests]),
            ("guest_silent_seconds", "gauge", "Since the last push.",
             [(name, round(now - seen.heard_at, 3)) for name, seen in guests]),
            ("guest_pushes_total", "counter", "Pushes heard.",
             [(name, seen.pushes) for name, seen in guests]),
            ("guest_boots_total", "counter", "Boots seen.",
             [(name, seen.boots) for name, seen in guests]),
        ]  # fmt: skip
        lines = []
        for metric, kind, help_text, values in rows:
            lines += [f"# HELP sappers_{metric} {help_text}", f"# TYPE sappers_{metric} {kind}"]
            lines += [f'sappers_{metric}{{allocation="{name}"}} {value}' for name, value in values]
        name = "sappers_monitor_unreadable_pushes_total"
        lines += [f"# HELP {name} Pushes that made no sense.", f"# TYPE {name} counter"]
        return "\n".join([*lines, f"{name} {self.unreadable}", ""])


async def run(guest: Guest) -> None:
    """Gather and serve for as long as the guest lives."""
    gathered = Gathered()

    async def receive(subject: str, payload: bytes) -> None:
        gathered.push(subject, payload, time.monotonic())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_REQUEST_SECONDS):
                writer.write(answer(await read_request(reader), gathered))
                await writer.drain()
        writer.close()

    for subject in (subjects.GUEST_HEALTH_ALL, subjects.guest_health(guest.allocation_id)):
        await guest.subscribe(subject, receive)
    port = int(os.environ.get("SAPPERS_PORT", "9100"))
    server = await asyncio.start_server(serve, "0.0.0.0", port)  # noqa: S104 - it is a guest
    guest.report()
    async with server:
        await server.serve_forever()


async def read_request(reader: asyncio.StreamReader) -> str:
    """The first line of a request, once all its header has come."""
    first = (await reader.readline()).decode("ascii", "replace").strip()
    size = 0
    while (line := await reader.readline()) not in (b"\r\n", b"\n", b""):
        size += len(line)
        if size > _HEADER_BYTES_MAX:
            raise ValueError("the header is too long")
    return first


def answer(request: str, gathered: Gathered) -> bytes:
    """The whole answer to a request's first line."""
    method, _, rest = request.partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if method not in ("GET", "HEAD"):
        status, body = "405 Method Not Allowed", "only GET\n"
    elif path != "/metrics":
        status, body = "404 Not Found", "see /metrics\n"
    else:
        status, body = "200 OK", gathered.metrics(time.monotonic())
    content = b"" if method == "HEAD" else body.encode()
    kind = "text/plain; version=0.0.4; charset=utf-8"
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body.encode())}\r\n"
        "Connection: close\r\n\r\n"
    ).encode() + content
