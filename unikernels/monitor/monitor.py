"""The monitor: hears what guests push and what the cluster tells, serves metrics, raises alerts.

What it raises is said to its member again and again, as a whole: what gets lost costs nothing. The
cluster commits the difference as events. Subscribers hear each change on `sappers.alerts.<kind>`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from alerts import Alerts, Change, find_wrong
from gathered import Gathered, metrics

from sappers.model import subjects

if TYPE_CHECKING:
    from sappers.sidecar.guest import Guest

_LOOK_SECONDS = 1.0
_REPORT_SECONDS = 5.0
# A monitor that has just started knows nothing: what it does not see may well be wrong.
_SETTLE_SECONDS = 25.0
_DEAF_SECONDS = 5.0
_REQUEST_SECONDS = 5.0
_HEADER_BYTES_MAX = 16384


class Monitor:
    """What is gathered, and what follows from it."""

    def __init__(self) -> None:
        self.gathered = Gathered()
        self.alerts = Alerts()

    def look(self, now: float) -> list[Change]:
        """What is wrong now and was not before, and the reverse."""
        if now - self.gathered.heard_at > _DEAF_SECONDS:
            return []  # not even itself: it is the hub that is away
        self.gathered.forget(now)
        return self.alerts.update(find_wrong(self.gathered, now), now)

    def report(self) -> bytes:
        """All that is wrong, for the member."""
        said = [_said(one) for one in self.alerts.raised]
        return json.dumps({"alerts": said}).encode()

    def metrics(self, now: float) -> str:
        """What Prometheus reads."""
        return metrics(self.gathered, [one.key for one in self.alerts.raised], now)


async def run(guest: Guest) -> None:
    """Gather, tell and serve for as long as the guest lives."""
    monitor = Monitor()

    async def take_push(subject: str, payload: bytes) -> None:
        monitor.gathered.push(subjects.allocation_of(subject), payload, time.monotonic())

    async def take_event(_: str, payload: bytes) -> None:
        monitor.gathered.event(payload, time.monotonic())

    port = int(os.environ.get("SAPPERS_PORT", "9100"))
    await guest.subscribe(subjects.GUEST_HEALTH_ALL, take_push)
    await guest.subscribe(f"{subjects.EVENTS}.>", take_event)
    guest.report()
    async with asyncio.TaskGroup() as group:
        group.create_task(_tell(guest, monitor))
        group.create_task(_serve(monitor, port))


async def _tell(guest: Guest, monitor: Monitor) -> None:
    """Say what is wrong, at once when it changes, and every few seconds anyhow."""
    await asyncio.sleep(_SETTLE_SECONDS)
    due = 0.0
    while True:
        now = time.monotonic()
        changes = monitor.look(now)
        with contextlib.suppress(Exception):  # without the hub there is nobody to tell; go on
            if (changes or now >= due) and await guest.publish("alert", monitor.report()):
                due = now + _REPORT_SECONDS
            for change in changes:
                word = {"raised": change.raised, **_said(change.wrong)}
                subject = subjects.alert(change.wrong.kind)
                await guest.messaging.publish(subject, json.dumps(word).encode())
        await asyncio.sleep(_LOOK_SECONDS)


def _said(wrong: Any) -> dict[str, str]:
    return {"kind": wrong.kind, "subject": wrong.subject, "text": wrong.text}


async def _serve(monitor: Monitor, port: int) -> None:
    async def answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_REQUEST_SECONDS):
                writer.write(answer(await read_request(reader), monitor))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer_one, "0.0.0.0", port)  # noqa: S104 - it is a guest
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


def answer(request: str, monitor: Monitor) -> bytes:
    """The whole answer to a request's first line."""
    method, _, rest = request.partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if method not in ("GET", "HEAD"):
        status, body = "405 Method Not Allowed", "only GET\n"
    elif path == "/health":
        status, body = "200 OK", "ok\n"
    elif path != "/metrics":
        status, body = "404 Not Found", "see /metrics\n"
    else:
        status, body = "200 OK", monitor.metrics(time.monotonic())
    content = b"" if method == "HEAD" else body.encode()
    kind = "text/plain; version=0.0.4; charset=utf-8"
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body.encode())}\r\n"
        "Connection: close\r\n\r\n"
    ).encode() + content
