"""HAProxy's runtime socket: what it says of its servers, and the commands that change them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from sappers.errors import GatewayError
from sappers.gateway.configuration import (
    SERVER_OPTIONS,
    SERVICES_MAP,
    Slots,
    checked_name,
    endpoint,
    slot_name,
)
from sappers.model.route import Backend, Route

_ANSWER_SECONDS = 5.0
_ANSWER_MAX_BYTES = 16 << 20
_IN_MAINTENANCE = 0x01  # of a server's administrative state: by the word of its socket


class Server(msgspec.Struct, frozen=True):
    """A server as HAProxy has it."""

    backend: Backend
    routed: bool


Servers = Mapping[str, Mapping[str, Server]]


class Present(msgspec.Struct, frozen=True):
    """What HAProxy has.

    Attributes:
        slots: The backend of each service.
        servers: By backend and id.
    """

    slots: Slots
    servers: Servers


def changes(routes: Sequence[Route], slots: Slots, present: Present) -> tuple[str, ...]:
    """Commands that bring HAProxy closer to the routes.

    A guest that goes gets no new request at once; it is removed in a later call, when the requests
    that it has are answered. A service is told of when its guests are there.

    Args:
        routes: What is wanted.
        slots: The backend of each of their services.
        present: What HAProxy has.
    """
    wanted = {slot_name(slots[route.service]): route.backends for route in routes}
    return (
        *_forget_services(slots, present.slots),
        *(
            command
            for slot in sorted(wanted.keys() | present.servers.keys())
            for command in _server_changes(
                slot, wanted.get(slot, ()), present.servers.get(slot, {})
            )
        ),
        *(
            f"add map {SERVICES_MAP} {checked_name(service)} {slot_name(slot)}"
            for service, slot in sorted(slots.items())
            if present.slots.get(service) != slot
        ),
    )


def _forget_services(slots: Slots, present: Slots) -> Iterable[str]:
    for service, slot in sorted(present.items()):
        if slots.get(service) != slot:
            yield f"del map {SERVICES_MAP} {checked_name(service)}"


def _server_changes(
    slot: str, wanted: Sequence[Backend], there: Mapping[str, Server]
) -> Iterable[str]:
    for backend in wanted:
        yield from _served(f"{slot}/{checked_name(backend.id)}", backend, there.get(backend.id))
    for server_id in sorted(there.keys() - {backend.id for backend in wanted}):
        name = f"{slot}/{checked_name(server_id)}"
        yield f"set server {name} state maint" if there[server_id].routed else f"del server {name}"


def _served(name: str, backend: Backend, server: Server | None) -> Sequence[str]:
    ready = f"set server {name} state ready"
    place = endpoint(backend)  # which also says that the address is one
    if server is None:
        return (f"add server {name} {place} {SERVER_OPTIONS}", ready)
    if server.backend != backend:
        address, port = backend.address, backend.port
        return (
            f"set server {name} state maint",
            f"set server {name} addr {address} port {port}",
            ready,
        )
    return () if server.routed else (ready,)


def read_servers(text: str) -> Servers:
    """What `show servers state` says, by backend and server.

    Raises:
        GatewayError: It says something else.
    """
    found: dict[str, dict[str, Server]] = {}
    try:
        head = next(line for line in text.splitlines() if line.startswith("# "))[2:].split()
        place = {name: number for number, name in enumerate(head)}
        for line in text.splitlines():
            fields = line.split()
            if len(fields) < len(head) or line.startswith("#"):
                continue
            server_id = fields[place["srv_name"]]
            found.setdefault(fields[place["be_name"]], {})[server_id] = Server(
                Backend(server_id, fields[place["srv_addr"]], int(fields[place["srv_port"]])),
                routed=not int(fields[place["srv_admin_state"]]) & _IN_MAINTENANCE,
            )
    except (StopIteration, KeyError, ValueError) as error:
        raise GatewayError(f"HAProxy says what makes no sense: {text[:200]!r}") from error
    return found


def read_slots(text: str) -> Slots:
    """What `show map` says: which service has which backend.

    Raises:
        GatewayError: It says something else.
    """
    try:
        pairs = [line.split()[1:3] for line in text.splitlines() if line.strip()]
        return {service: int(slot.removeprefix("slot-")) for service, slot in pairs}
    except ValueError as error:
        raise GatewayError(f"HAProxy says what makes no sense: {text[:200]!r}") from error


async def ask(folder: Path, socket: str, command: str) -> str:
    """One command to a socket in a folder, and its answer.

    Raises:
        GatewayError: It does not answer.
    """
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await _connect(folder, socket)
            try:
                writer.write(f"{command}\n".encode())
                await writer.drain()
                answer = await reader.read(_ANSWER_MAX_BYTES)
                while more := await reader.read(_ANSWER_MAX_BYTES - len(answer)):
                    answer += more
            finally:
                writer.close()
    except OSError as error:  # TimeoutError is one
        raise GatewayError(f"HAProxy does not answer at {socket}: {error}") from error
    return answer.decode(errors="replace").strip()


async def _connect(folder: Path, socket: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """By way of the folder's descriptor: a socket's path has 107 bytes at most."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        return await asyncio.open_unix_connection(f"/proc/self/fd/{descriptor}/{socket}")
    finally:
        os.close(descriptor)
