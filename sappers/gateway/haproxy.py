"""This member's gateway: one HAProxy, in a unit of its own that no restart of the agent touches.

Services and guests come and go through its socket, so no connection notices. Only a configuration
of another shape, which comes with another version of the agent, needs a reload: the listener stays
open, and the old process goes on until its requests are answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from sappers.config import GATEWAY_USER_ID
from sappers.durable import write_durably
from sappers.errors import GatewayError, SupervisorError
from sappers.gateway.configuration import (
    MASTER_SOCKET,
    RUNTIME_SOCKET,
    SERVICES_MAP,
    SLOTS,
    Listen,
    Slots,
    choose_slots,
    configuration,
    services_map,
    shape_of,
    slot_name,
)
from sappers.gateway.runtime import Present, ask, changes, read_servers, read_slots
from sappers.model.known_types import UNREADABLE
from sappers.model.route import Route
from sappers.ports import OUTPUT_LOG, Supervisor, UnitSpec

UNIT = "sappers-gateway"

_CONFIGURATION = "haproxy.cfg"
_LAST_ROUTES = "routes.json"
_START_SECONDS = 10.0
_STOP_SECONDS = 2.0
_SILENT_MAX = 3
_POLL_SECONDS = 0.05
_MEMORY_MAX_MIB = 384
_LOG_MAX_BYTES = 1 << 20
# What its socket answers to commands that it did; to others it says why not.
_DONE = ("", "New server registered.", "Server deleted.")

log = structlog.get_logger("sappers.gateway")


class HaproxyGateway:
    """Runs, changes and stops HAProxy; satisfies `ports.Gateway`."""

    def __init__(self, folder: Path, supervisor: Supervisor, listen: Listen) -> None:
        """`folder` is STATE_DIR/gateway; it is made when it is needed."""
        self._folder = folder
        self._supervisor = supervisor
        self._listen = listen
        self._one_at_a_time = asyncio.Lock()
        self._routes: tuple[Route, ...] | None = None
        self._silent = 0

    async def route(self, routes: Sequence[Route]) -> None:
        """Have it run with just these routes; nothing to do if it does already.

        Raises:
            GatewayError: It does not run, and why; or it refuses what it is told.
        """
        async with self._one_at_a_time:
            await self._route(tuple(routes))

    def routes(self) -> tuple[Route, ...]:
        """What it was told last, if by an agent or on a boot before this one."""
        if self._routes is None:
            self._routes = self._read_routes()
        return self._routes

    async def stop(self) -> None:
        """Make it run no more."""
        async with self._one_at_a_time:
            await self._supervisor.stop(UNIT, _STOP_SECONDS)

    async def _route(self, routes: tuple[Route, ...]) -> None:
        running = await self._shape()
        if running is None:
            await self._start(routes)
        elif running != self._wanted_shape() or not await self._change(routes):
            await self._reload(routes)
        self._remember(routes)
        self._trim_log()

    async def _shape(self) -> str | None:
        """The shape of what it runs with; None when it does not run, or has not answered for long.

        Raises:
            GatewayError: It does not answer; that may pass, and a restart would cost requests.
        """
        unit = await self._supervisor.status(UNIT)
        if unit is None or not unit.running:
            return None
        try:
            said = await ask(self._folder, RUNTIME_SOCKET, "show info")
            self._silent = 0
        except GatewayError:
            self._silent += 1
            if self._silent < _SILENT_MAX:
                raise
            return None
        found = (line for line in said.splitlines() if line.startswith("description: "))
        return next(found, "").removeprefix("description: ")

    async def _change(self, routes: Sequence[Route]) -> bool:
        """Whether services and guests are as wanted, without a reload."""
        present = await self._present()
        for command in changes(routes, _slots(routes, present), present):
            answer = await ask(self._folder, RUNTIME_SOCKET, command)
            log.info("gateway changed", command=command, answer=answer)
            # A guest that still has requests is removed the next time.
            if answer not in _DONE and not command.startswith("del "):
                log.warning("the gateway refuses a change", command=command, answer=answer)
                return False
        return True

    async def _present(self) -> Present:
        servers = await ask(self._folder, RUNTIME_SOCKET, "show servers state")
        slots = await ask(self._folder, RUNTIME_SOCKET, f"show map {SERVICES_MAP}")
        return Present(read_slots(slots), read_servers(servers))

    async def _reload(self, routes: Sequence[Route]) -> None:
        shape = self._write_configuration(routes)
        await self._ask_master("reload")
        await self._await_shape(shape)
        log.info("gateway reloaded", services=[route.service for route in routes])

    async def _ask_master(self, command: str) -> None:
        """Ask until it answers: while it loads what it was told before, it listens to nobody."""
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        while True:
            try:
                await ask(self._folder, MASTER_SOCKET, command)
            except GatewayError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return

    async def _start(self, routes: Sequence[Route]) -> None:
        program = find_haproxy()
        shape = self._write_configuration(routes)
        try:
            await self._supervisor.stop(UNIT, _STOP_SECONDS)
            with contextlib.suppress(FileNotFoundError):
                os.truncate(self._folder / OUTPUT_LOG, 0)
            await self._supervisor.start(self._unit(program))
        except SupervisorError as error:
            raise GatewayError(f"the gateway cannot be started: {error.message}") from error
        await self._await_shape(shape)
        log.info("gateway runs", services=[route.service for route in routes])

    def _unit(self, program: Path) -> UnitSpec:
        return UnitSpec(
            name=UNIT,
            command=(
                *(str(program), "-W", "-S", f"unix@{MASTER_SOCKET},mode,600"),
                *("-f", _CONFIGURATION),
            ),
            working_directory=str(self._folder),
            memory_max_mib=_MEMORY_MAX_MIB,
            capabilities=("CAP_KILL",),  # the master ends old workers, which are another user's
            description="Sappers gateway (HAProxy)",
        )

    async def _await_shape(self, shape: str) -> None:
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            unit = await self._supervisor.status(UNIT)
            if unit is None or not unit.running:
                break
            with contextlib.suppress(GatewayError):
                if f"description: {shape}" in await ask(self._folder, RUNTIME_SOCKET, "show info"):
                    return
            await asyncio.sleep(_POLL_SECONDS)
        raise self._failure()

    def _failure(self) -> GatewayError:
        listen, said = self._listen, self._log_tail()
        if "Address already in use" in said or "in use" in said:
            return GatewayError(
                f"port {listen.port} of {listen.address} is taken by another program",
                hint="stop it, or set sappers_gateway_port",
            )
        return GatewayError(
            f"the gateway does not run: {said or 'it said nothing'}",
            hint=f"see {self._folder / OUTPUT_LOG}",
        )

    # -- files ---------------------------------------------------------------------------------

    def _configuration(self, routes: Sequence[Route], slots: Slots) -> str:
        user_id = GATEWAY_USER_ID if os.geteuid() == 0 else None
        return configuration(self._listen, routes, slots, user_id)

    def _wanted_shape(self) -> str:
        return shape_of(self._configuration((), {}))

    def _write_configuration(self, routes: Sequence[Route]) -> str:
        """Write it; its shape."""
        slots = choose_slots((route.service for route in routes), {}, ())
        text, known = self._configuration(routes, slots), services_map(slots)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(self._folder / SERVICES_MAP, known.encode())
            write_durably(self._folder / _CONFIGURATION, text.encode())
        except OSError as error:
            raise GatewayError(f"{self._folder}: {error.strerror}") from error
        return shape_of(text)

    def _remember(self, routes: tuple[Route, ...]) -> None:
        if routes != self.routes():
            self._routes = routes
            with contextlib.suppress(OSError):  # it is read when Consul says nothing, and only then
                write_durably(self._folder / _LAST_ROUTES, msgspec.json.encode(routes))

    def _read_routes(self) -> tuple[Route, ...]:
        try:
            text = (self._folder / _LAST_ROUTES).read_bytes()
            return msgspec.json.decode(text, type=tuple[Route, ...])
        except (OSError, *UNREADABLE):
            return ()

    def _trim_log(self) -> None:
        """It writes a line for each guest that comes or goes."""
        path = self._folder / OUTPUT_LOG
        with contextlib.suppress(OSError):
            if path.stat().st_size > _LOG_MAX_BYTES:
                os.truncate(path, 0)

    def _log_tail(self) -> str:
        try:
            lines = (self._folder / OUTPUT_LOG).read_text(errors="replace").splitlines()
        except OSError:
            return ""
        alerts = [line for line in lines if "ALERT" in line] or lines
        return " ".join(alerts)[-500:]


def _slots(routes: Sequence[Route], present: Present) -> Slots:
    """The backend of each service; of those that are gone, guests may still answer in theirs."""
    occupied = {slot for slot in range(SLOTS) if present.servers.get(slot_name(slot))}
    return choose_slots((route.service for route in routes), present.slots, occupied)


def find_haproxy() -> Path:
    """HAProxy, from PATH or where Debian has it.

    Raises:
        GatewayError: There is none.
    """
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise GatewayError("HAProxy is missing", hint="apt install haproxy (2.6 or newer)")
    return Path(found)
