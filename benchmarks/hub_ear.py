"""Hears, on the cluster's own hub, when a guest says for the first time that it is healthy."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Self

import msgspec
import structlog

from benchmarks.rig import Rig
from sappers.hub.client import NatsHubClient
from sappers.model import subjects
from sappers.model.member import Member

_CONNECT_SECONDS = 15.0
# Whether it is connected is seen here; how is of no interest.
logging.getLogger("asyncio").setLevel(logging.CRITICAL)
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


class HubEar:
    """Listens while the block lasts.

    Attributes:
        healthy: By allocation id: `time.monotonic` of its first healthy push.
    """

    def __init__(self, rig: Rig, servers: Sequence[Member]) -> None:
        self._credentials = rig.hub_credentials().operator()
        self._identity = rig.operator
        self._servers = servers
        self.healthy: dict[str, float] = {}
        self._listening = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listening.wait(_CONNECT_SECONDS):
            self.__exit__(None, None, None)
            raise RuntimeError("the hub does not let us listen")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()

    async def _run(self) -> None:
        client = NatsHubClient(self._identity, lambda: self._credentials, name="bench")
        await client.subscribe(subjects.GUEST_HEALTH_ALL, self._received)
        await client.connect(self._servers)
        while not self._stopping.is_set():
            if client.connected:
                self._listening.set()
                await self._stopping.wait()
            else:
                await asyncio.sleep(0.05)
        await client.close()

    async def _received(self, subject: str, payload: bytes) -> None:
        now = time.monotonic()
        push: dict[str, Any] = msgspec.json.decode(payload)
        if push["healthy"]:
            self.healthy.setdefault(subjects.allocation_of(subject), now)
