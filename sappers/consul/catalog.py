"""Who is healthy, by Consul's word, across the cluster: `ports.ServiceCatalog` over py-consul.

One blocking query waits for news of any check; then each service that is followed is asked for. All
of it is in a thread of its own, which ends with the process even while a query is under way.
"""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import consul
import msgspec
import structlog

from sappers.consul.calls import ConsulCalls
from sappers.decisions.reconcile_services import META_ALLOCATION, META_CLUSTER
from sappers.errors import ConsulError
from sappers.model.route import ROUTABLE_NAME, Backend

# A query that waits cannot be told of services that are followed only since; it is asked anew.
WAIT_SECONDS = 5.0
# Many checks change at once when a member dies; they are read together.
PAUSE_SECONDS = 0.1
RETRY_SECONDS = 1.0

log = structlog.get_logger("sappers.consul")


class _Instance(msgspec.Struct, rename="pascal"):
    """The `Service` of an entry of `/v1/health/service/<name>`."""

    address: str = ""
    port: int = 0
    meta: dict[str, str] | None = None


class _Entry(msgspec.Struct, rename="pascal"):
    service: _Instance


class ConsulCatalog:
    """Follows services at one Consul agent."""

    def __init__(self, calls: ConsulCalls) -> None:
        self._calls = calls
        self._followed: tuple[str, frozenset[str]] = ("", frozenset())
        self._passing: Mapping[str, Sequence[Backend]] = {}
        self._news = asyncio.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, cluster_id: str, services: Collection[str]) -> None:
        """Follow just these services of this cluster from now on; asks in the background."""
        self._followed = (cluster_id, frozenset(services))
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(
                target=self._watch, args=(loop,), name="consul-catalog", daemon=True
            )
            self._thread.start()

    def passing(self) -> Mapping[str, Sequence[Backend]]:
        """Guests that pass all their checks, by service, of services that an answer came for.

        Nothing is forgotten while no further answer comes.
        """
        return self._passing

    async def changes(self) -> AsyncIterator[None]:
        """Yields whenever `passing()` may differ."""
        while True:
            await self._news.wait()
            self._news.clear()
            yield

    def close(self) -> None:
        """Ask no more; a query that is under way ends by itself."""
        self._ended.set()

    # -- the thread ----------------------------------------------------------------------------

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        read: tuple[int, object] | None = None
        trouble = ""
        while not self._ended.is_set() and not loop.is_closed():
            try:
                index = self._calls.call_here(partial(_await_news, read[0] if read else None))
                followed = self._followed
                if read != (index, followed):
                    found = self._calls.call_here(partial(_read, *followed))
                    loop.call_soon_threadsafe(self._take, found)
                    read = (index, followed)
                trouble = ""
                self._ended.wait(PAUSE_SECONDS)
            except ConsulError as error:
                read = None  # a Consul that lost its data counts anew
                if error.message != trouble:
                    log.warning("consul says nothing of services", error=error.message)
                trouble = error.message
                self._ended.wait(RETRY_SECONDS)
            except Exception:  # an answer may be anything, and the loop may just have ended
                read = None
                if not loop.is_closed():
                    log.exception("the catalog of services broke")
                self._ended.wait(RETRY_SECONDS)

    def _take(self, found: Mapping[str, Sequence[Backend]]) -> None:
        if found != self._passing:
            self._passing = found
            self._news.set()


def _read(
    cluster_id: str, services: Collection[str], client: consul.Consul
) -> Mapping[str, Sequence[Backend]]:
    return {
        name: tuple(read_backends(client.health.service(name, passing=True)[1], cluster_id))
        for name in sorted(services)
    }


def _await_news(seen: int | None, client: consul.Consul) -> int:
    """The index of the checks' newest change; waits a while for one that is newer than `seen`."""
    wait = f"{WAIT_SECONDS:.0f}s"
    index = int(client.health.state("any", index=seen, wait=wait if seen else None)[0])
    # It may go back when Consul is restored; then it is asked for from the beginning.
    return 0 if seen is not None and index < seen else index


def read_backends(entries: Any, cluster_id: str) -> Iterable[Backend]:
    """Guests of this cluster; whatever else is registered under a name is left out.

    Raises:
        ConsulError: It is no answer of `/v1/health/service/<name>`.
    """
    try:
        found = msgspec.convert(entries, list[_Entry])
    except msgspec.ValidationError as error:
        raise ConsulError(f"Consul answers what makes no sense: {error}") from error
    for entry in found:
        instance, meta = entry.service, entry.service.meta or {}
        allocation_id = meta.get(META_ALLOCATION, "")
        if (
            meta.get(META_CLUSTER) == cluster_id
            and ROUTABLE_NAME.fullmatch(allocation_id)
            and _is_address(instance.address)
            and 0 < instance.port < 65_536
        ):
            yield Backend(allocation_id, instance.address, instance.port)


def _is_address(text: str) -> bool:
    """Without a scope, which may be any text."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text
