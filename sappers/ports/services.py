"""Services: the registry, the mesh, the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Protocol

from sappers.model.mesh import IntentionChange, IntentionReading, MeshPlan, ProxyToken
from sappers.model.route import Backend, Route
from sappers.model.service import ServiceChange, ServiceReading


class ServiceRegistry(Protocol):
    """The host's Consul agent (`consul/`). Each call ends within seconds, whatever Consul does."""

    async def services(self) -> Sequence[ServiceReading]:
        """All that is registered at this very Consul agent, by whomever, but for mesh proxies.

        Raises:
            ConsulError: It does not answer, or answers an error.
        """

    async def execute(self, change: ServiceChange) -> None:
        """Register, deregister or report; repeating it changes nothing.

        Raises:
            ConsulError: As `services`.
        """

    async def check_catalog(self) -> None:
        """Whether what is registered here reaches the others.

        Raises:
            ConsulError: Consul's servers have no leader, or cannot be reached.
        """


class ServiceCatalog(Protocol):
    """What is known of the guests' health across the cluster (`consul/`)."""

    def follow(self, cluster_id: str, services: Collection[str]) -> None:
        """Follow just these services of this cluster from now on; asks in the background."""

    def passing(self) -> Mapping[str, Sequence[Backend]]:
        """Guests that pass all their checks, by service, of services that an answer came for.

        Nothing is forgotten while no further answer comes.
        """

    def changes(self) -> AsyncIterator[None]:
        """Yields whenever `passing()` may differ."""


class MeshProxies(Protocol):
    """The Connect proxies of this member's guests (`consul/`)."""

    async def keep(self, plan: MeshPlan) -> None:
        """Have just these proxies run, in units of their own, and be known to Consul.

        Those that run go on whatever Consul does.

        Raises:
            SappersError: Some do not run, or Consul does not know of them; the rest was done.
        """


class Intentions(Protocol):
    """Who may call whom in the mesh, and with which tokens (`consul/`)."""

    async def intentions(self) -> Sequence[IntentionReading]:
        """All there are, by whomever.

        Raises:
            ConsulError: Consul does not answer, or answers an error.
        """

    async def execute(self, change: IntentionChange) -> None:
        """Make, change or remove one; repeating it changes nothing.

        Raises:
            ConsulError: As `intentions`.
        """

    async def tokens(self) -> Sequence[ProxyToken]:
        """All tokens there are, by whomever; none where Consul asks for none.

        Raises:
            ConsulError: As `intentions`.
        """

    async def revoke(self, token: ProxyToken) -> None:
        """Take a token back.

        Raises:
            ConsulError: As `intentions`.
        """


class Gateway(Protocol):
    """This member's way in for requests to services (`gateway/`)."""

    async def route(self, routes: Sequence[Route]) -> None:
        """Have it run with just these routes; nothing to do if it does already.

        Raises:
            GatewayError: It does not run, and why; or it refuses what it is told.
        """

    def routes(self) -> tuple[Route, ...]:
        """What it was told last, if by an agent or on a boot before this one."""

    async def stop(self) -> None:
        """Make it run no more."""
