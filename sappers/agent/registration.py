"""Registration: keeps what the host's Consul agent says of this member's guests true.

It runs beside the loop and holds nothing up: Consul may be away, slow or wrong for as long as it
likes, and is told everything that it missed when it answers again.

A dead man's switch: guests are reported only while the loop goes round. An agent that hangs or dies
falls silent, and its guests' checks turn critical.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

import structlog

from sappers.decisions.reconcile_services import (
    WantedServices,
    reconcile_services,
    wanted_services,
)
from sappers.errors import ConsulError
from sappers.model.actions import Action
from sappers.model.cluster_state import ClusterState
from sappers.model.member import Member
from sappers.model.service import DeregisterService, RegisterService, ServiceChange
from sappers.ports import Clock, ServiceRegistry

# A third of a check's time to live: two reports may be lost.
REPEAT_SECONDS = 5.0
# A change is told at once, but a guest that flaps must not keep Consul busy.
PAUSE_SECONDS = 0.5
# The loop goes round every second; so old a reading is nobody's any more.
STALE_SECONDS = 10.0

log = structlog.get_logger(__name__)


class Registration:
    """Registers, deregisters and reports; `registry` is None where Consul is not used."""

    def __init__(self, registry: ServiceRegistry | None, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._wanted: WantedServices | None = None
        self._followed_at = 0.0
        self._repeated_at: float | None = None
        self._changed = asyncio.Event()
        self._trouble = "it was not asked yet"

    @property
    def word(self) -> str:
        """`ok`, `down`, or `-` where Consul is not used."""
        return ("down" if self._trouble else "ok") if self._registry else "-"

    @property
    def trouble(self) -> str:
        """Why what Consul says may not be true, one sentence, or empty."""
        return self._trouble if self._registry else ""

    def follow(self, state: ClusterState, me: Member, plan: Iterable[Action]) -> None:
        """What is so now: the state, and what this member's plan reports beyond it."""
        if self._registry is None or not state.cluster_id:
            return
        wanted = wanted_services(state, me, plan)
        self._followed_at = self._clock.monotonic()
        if wanted != self._wanted:
            self._wanted = wanted
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        if self._registry is None:
            return
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPEAT_SECONDS):
                    await self._changed.wait()
            self._changed.clear()
            now = self._clock.monotonic()
            if self._wanted is not None and now - self._followed_at < STALE_SECONDS:
                await self._look(self._registry, self._wanted, now)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _look(self, registry: ServiceRegistry, wanted: WantedServices, now: float) -> None:
        repeat = self._repeated_at is None or now - self._repeated_at >= REPEAT_SECONDS
        try:
            changes = reconcile_services(wanted, await registry.services(), repeat=repeat)
            failed = await self._execute(registry, changes)
            if failed is None:
                await registry.check_catalog()
        except ConsulError as error:
            failed = error
        except Exception as error:
            log.exception("registration broke")
            failed = ConsulError(repr(error))
        if failed is None and repeat:
            self._repeated_at = now
        self._tell(failed.message if failed else "")

    async def _execute(
        self, registry: ServiceRegistry, changes: Iterable[ServiceChange]
    ) -> ConsulError | None:
        """One that fails keeps none of the others from being done."""
        failed: ConsulError | None = None
        for change in changes:
            match change:
                case RegisterService(reading=reading):
                    log.info("registering", service=reading.service.id, name=reading.service.name)
                case DeregisterService(service_id=service_id, reason=reason):
                    log.info("deregistering", service=service_id, reason=reason)
            try:
                await registry.execute(change)
            except ConsulError as error:
                failed = error
        return failed

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            if trouble:
                log.warning("consul is in trouble", error=trouble)
            else:
                log.info("consul is told everything")
            self._trouble = trouble
