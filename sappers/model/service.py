"""A service: how a guest is found in Consul. Never desired state; it follows from allocations."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class ServiceHealth(StrEnum):
    """What Consul says of an instance; only passing ones get requests."""

    PASSING = "passing"
    WARNING = "warning"
    CRITICAL = "critical"


class Service(msgspec.Struct, frozen=True):
    """One instance of a service, as it is registered.

    Attributes:
        id: Unique at its Consul agent.
        name: What others find it by.
        address: IP address, or empty for that of the Consul agent's host.
        port: 0 when it serves none.
        meta: Whose it is; texts of at most 512 characters.
    """

    id: str
    name: str
    address: str
    port: int = 0
    tags: tuple[str, ...] = ()
    meta: dict[str, str] = {}


class ServiceReading(msgspec.Struct, frozen=True):
    """A service and how it is.

    Attributes:
        health: None where it is registered without its check.
        note: Why it has that health, a sentence for a person.
    """

    service: Service
    health: ServiceHealth | None
    note: str = ""


class RegisterService(msgspec.Struct, frozen=True):
    """Register an instance and its check, over what is there of that id."""

    reading: ServiceReading


class DeregisterService(msgspec.Struct, frozen=True):
    """Remove an instance and its check."""

    service_id: str
    reason: str


class ReportService(msgspec.Struct, frozen=True):
    """Tell an instance's check how it is; what is not told again in time turns critical."""

    service_id: str
    health: ServiceHealth
    note: str


ServiceChange = RegisterService | DeregisterService | ReportService
