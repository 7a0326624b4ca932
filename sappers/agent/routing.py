"""Routing: keeps this member's gateway as the state and Consul say, beside the agent's loop.

While Consul is away the last word on each service holds, over restarts of the agent and of the
host; guests that the cluster stops are taken out all the same.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from sappers.decisions.routing import choose_routes, routed_services
from sappers.errors import SappersError
from sappers.model.cluster_state import ClusterState
from sappers.ports import Gateway, ServiceCatalog

# So often it looks whether the gateway still runs as it should; news wake it at once.
LOOK_SECONDS = 5.0
PAUSE_SECONDS = 0.1

log = structlog.get_logger(__name__)


class Routing:
    """`run` keeps the gateway, `follow` says what of.

    Args:
        gateway: Of this member.
        catalog: None where no gateway is wanted.
    """

    def __init__(self, gateway: Gateway, catalog: ServiceCatalog | None) -> None:
        self._gateway = gateway
        self._catalog = catalog
        self._state: ClusterState | None = None
        self._wake = asyncio.Event()
        self.trouble = ""

    def follow(self, state: ClusterState) -> None:
        """Route to the services of this state, which has caught up with the cluster's."""
        if self._catalog and state is not self._state:
            self._state = state
            self._catalog.follow(state.cluster_id, routed_services(state))
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled; the gateway itself goes on."""
        if self._catalog is None:
            with contextlib.suppress(SappersError):
                await self._gateway.stop()
            return
        watch = asyncio.create_task(self._wake_on_changes(self._catalog))
        try:
            while True:
                self._wake.clear()
                await self._apply(self._catalog)
                await asyncio.sleep(PAUSE_SECONDS)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._wake.wait()
        finally:
            watch.cancel()

    async def _apply(self, catalog: ServiceCatalog) -> None:
        """Bring the gateway to what is known; what keeps it from that is told and tried again."""
        before = self._gateway.routes()
        routes = before
        if self._state is not None:
            routes = choose_routes(self._state, catalog.passing(), before)
        try:
            await self._gateway.route(routes)
            self.trouble = ""
        except SappersError as error:
            if error.explained != self.trouble:
                log.warning("the gateway is not as wanted", error=error.explained)
            self.trouble = error.explained
        except Exception as error:
            self.trouble = f"it cannot be looked after: {error!r}"
            log.exception("routing broke")

    async def _wake_on_changes(self, catalog: ServiceCatalog) -> None:
        async for _ in catalog.changes():
            self._wake.set()
