"""The host's Consul agent as a registry of services: `ports.ServiceRegistry` over py-consul."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import consul
import msgspec

from sappers.consul.calls import ConsulCalls
from sappers.errors import ConsulError
from sappers.model.service import (
    DeregisterService,
    RegisterService,
    ReportService,
    Service,
    ServiceChange,
    ServiceHealth,
    ServiceReading,
)

# An agent reports every few seconds; one that died says nothing, and its guests turn critical.
TTL_SECONDS = 20
# Only where nobody tells Consul any more: whoever lives corrects the list much sooner.
DEREGISTER_SECONDS = 600


class _ServiceEntry(msgspec.Struct, rename="pascal"):
    """A service of `/v1/agent/services`."""

    id: str = msgspec.field(name="ID")
    service: str
    kind: str = ""
    address: str = ""
    port: int = 0
    tags: tuple[str, ...] | None = None
    meta: dict[str, str] | None = None


class _CheckEntry(msgspec.Struct, rename="pascal"):
    """A check of `/v1/agent/checks`."""

    check_id: str = msgspec.field(name="CheckID")
    status: str
    output: str = ""


class ConsulRegistry:
    """Registers guests at one Consul agent."""

    def __init__(self, calls: ConsulCalls) -> None:
        self._calls = calls

    async def services(self) -> Sequence[ServiceReading]:
        """All that is registered at this very Consul agent, by whomever, but for mesh proxies.

        Raises:
            ConsulError: It does not answer, or answers an error.
        """
        return await self._calls.call(_read)

    async def execute(self, change: ServiceChange) -> None:
        """Register, deregister or report; repeating it changes nothing.

        Raises:
            ConsulError: As `services`.
        """
        await self._calls.call(lambda client: _execute(client, change))

    async def check_catalog(self) -> None:
        """Whether what is registered here reaches the others.

        Raises:
            ConsulError: Consul's servers have no leader, or cannot be reached.
        """
        if not await self._calls.call(lambda client: client.status.leader()):
            raise ConsulError(
                "Consul's servers have no leader",
                hint="start sappers-consul on more of the voters",
            )


def _read(client: consul.Consul) -> Sequence[ServiceReading]:
    try:
        entries = msgspec.convert(client.agent.services(), dict[str, _ServiceEntry])
        checks = msgspec.convert(client.agent.checks(), dict[str, _CheckEntry])
    except msgspec.ValidationError as error:
        raise ConsulError(f"Consul answers what makes no sense: {error}") from error
    return [
        _reading(entry, checks.get(_check_id(entry.id)))
        for entry in entries.values()
        if not entry.kind
    ]


def _reading(entry: _ServiceEntry, check: _CheckEntry | None) -> ServiceReading:
    service = Service(
        id=entry.id,
        name=entry.service,
        address=entry.address,
        port=entry.port,
        tags=entry.tags or (),
        meta=entry.meta or {},
    )
    known = check is not None and check.status in tuple(ServiceHealth)
    return ServiceReading(
        service,
        ServiceHealth(check.status) if check is not None and known else None,
        check.output if check is not None else "",
    )


def _execute(client: consul.Consul, change: ServiceChange) -> None:
    match change:
        case RegisterService(reading=reading):
            _register(client, reading)
        case DeregisterService(service_id=service_id):
            client.agent.service.deregister(service_id)
        case ReportService(service_id=service_id, health=health, note=note):
            say = {
                ServiceHealth.PASSING: client.agent.check.ttl_pass,
                ServiceHealth.WARNING: client.agent.check.ttl_warn,
                ServiceHealth.CRITICAL: client.agent.check.ttl_fail,
            }[health]
            say(_check_id(service_id), notes=note)


def _register(client: consul.Consul, reading: ServiceReading) -> None:
    service = reading.service
    check: dict[str, Any] = {
        "CheckID": _check_id(service.id),
        "Name": "Health that the guest pushes",
        "TTL": f"{TTL_SECONDS}s",
        "DeregisterCriticalServiceAfter": f"{DEREGISTER_SECONDS}s",
        "Status": str(reading.health or ServiceHealth.CRITICAL),
    }
    client.agent.service.register(
        service.name,
        service_id=service.id,
        address=service.address,
        port=service.port,
        tags=list(service.tags),
        meta=service.meta,
        check=check,
        replace_existing_checks=True,
    )


def _check_id(service_id: str) -> str:
    return f"service:{service_id}"
