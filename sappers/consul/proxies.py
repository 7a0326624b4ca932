"""Connect proxies beside guests: Consul's own, each in a unit and with a user of its own.

    STATE_DIR/mesh/<allocation>/          0700, ours
        record.json                       what it was started with, and the secret of its token
        run/                              0700, the proxy's own user's; it works here
            token                         what it shows to Consul, for its one service

An agent that restarts finds its proxies again, units by name and what they run with by record, and
touches none that is as it should be. Consul need not be there: a proxy waits for it itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path

import consul
import msgspec
import structlog

from sappers.config import PROXY_USERS_BEYOND, ConsulSettings
from sappers.consul.calls import ConsulCalls
from sappers.consul.intentions import list_tokens
from sappers.consul.proxy_registration import register_proxies
from sappers.decisions.mesh import token_mark
from sappers.durable import write_durably
from sappers.errors import ConsulError, SappersError
from sappers.model.known_types import UNREADABLE
from sappers.model.mesh import MeshPlan, MeshProxy
from sappers.ports import OUTPUT_LOG, Clock, Supervisor, UnitSpec, UnitStatus

UNIT_PREFIX = "sappers-mesh-"
_TOKEN = "token"  # noqa: S105 - a file's name
_RECORD = "record.json"
_STOP_SECONDS = 2.0
_MEMORY_MAX_MIB = 192
_LOG_MAX_BYTES, _TAIL_BYTES = 1 << 20, 300
_TOKENS_CHECKED_SECONDS = 60.0
# Where bootstrap puts Debian's, beside what PATH says.
_PROGRAM_PATH = "/usr/local/bin:/usr/bin:/opt/sappers/consul"

log = structlog.get_logger("sappers.mesh")

Command = tuple[str, ...]


class Host(msgspec.Struct, frozen=True):
    """What a proxy needs of its host.

    Attributes:
        user_of: Whom a guest runs as, by allocation.
        open_doors: What lets that guest, and nobody else, connect to ports of loopback, and that
            guest's proxy, and nobody else, answer there.
        close_doors: What takes that back.
    """

    user_of: Callable[[str], int]
    open_doors: Callable[[str, Collection[int]], Command]
    close_doors: Callable[[str, Collection[int]], Command]


class _Record(msgspec.Struct, frozen=True):
    """What a proxy was started with; `doors` is the command that opened its links."""

    proxy: MeshProxy
    secret: str
    doors: Command = ()

    def __repr__(self) -> str:
        return f"_Record({self.proxy!r})"


class ConnectProxies:
    """Starts, registers and stops them; satisfies `ports.MeshProxies`.

    Args:
        folder: STATE_DIR/mesh; it is made when it is needed.
        calls: None where Consul is not used: nothing can be kept there, and what ran is ended.
        host: None where nothing keeps other users from a guest's links: then guests have none.
    """

    def __init__(
        self,
        folder: Path,
        calls: ConsulCalls | None,
        settings: ConsulSettings,
        supervisor: Supervisor,
        clock: Clock,
        host: Host | None,
        *,
        find_program: Callable[[], Path] | None = None,
    ) -> None:
        self._folder = folder
        self._calls = calls
        self._settings = settings
        self._supervisor = supervisor
        self._clock = clock
        self._host = host
        self._find_program = find_program or find_consul
        self._tokens_told: dict[str, float | None] = {}

    async def keep(self, plan: MeshPlan) -> None:
        """Have just these proxies run, in units of their own, and be known to Consul.

        Those that run go on whatever Consul does.

        Raises:
            SappersError: Some do not run, or Consul does not know of them; the rest was done.
        """
        wanted = {one.allocation_id: one for one in plan.proxies}
        units = {
            unit.name.removeprefix(UNIT_PREFIX): unit
            for unit in await self._supervisor.list(UNIT_PREFIX)
        }
        known = units.keys() | {path.parent.name for path in self._folder.glob(f"*/{_RECORD}")}
        failed: SappersError | None = None
        for act in (
            *(partial(self._stop, one) for one in sorted(known - wanted.keys() - plan.staying)),
            *(partial(self._ensure, wanted[one], units.get(one)) for one in sorted(wanted)),
        ):
            try:
                await act()
            except SappersError as error:
                failed = error
        if self._calls is not None:
            await self._tell(self._calls, plan)
        if failed is not None:
            raise failed

    async def _tell(self, calls: ConsulCalls, plan: MeshPlan) -> None:
        try:
            await calls.call(lambda client: register_proxies(client, plan))
            await self._check_tokens(plan.proxies)
        except ConsulError:
            self._tokens_told = {}  # a Consul that is away may come back with nothing
            raise

    # -- processes -----------------------------------------------------------------------------

    async def _ensure(self, proxy: MeshProxy, unit: UnitStatus | None) -> None:
        record, output = self._record(proxy.allocation_id), self._output(proxy.allocation_id)
        doors = self._doors(proxy)
        as_wanted = record is not None and (record.proxy, record.doors) == (proxy, doors)
        if as_wanted and unit is not None and unit.running:
            _trim(output)
            return
        if proxy.upstreams and self._host is None:
            if proxy.port:
                await self._ensure(msgspec.structs.replace(proxy, upstreams=()), unit)
            raise ConsulError(
                f"{proxy.allocation_id} has no way to what it is linked to: nothing here would "
                "keep other users from it",
                hint="links need an agent that bootstrap has set up: systemd, and nftables",
            )
        said = _tail(output)
        await self._start(proxy, record)
        if as_wanted and unit is not None:
            raise ConsulError(
                f"the mesh proxy of {proxy.allocation_id} had ended: {said or 'it said nothing'}",
                hint="it is started again each time",
            )

    async def _start(self, proxy: MeshProxy, before: _Record | None) -> None:
        """With a token that Consul knows; the one that it had before it need not be asked for."""
        program = self._find_program()
        if before is not None and before.proxy.service == proxy.service:
            record = _Record(proxy, before.secret, self._doors(proxy))
        else:
            record = _Record(proxy, str(uuid.uuid4()), self._doors(proxy))
            await self._give_tokens([record])
        await self._supervisor.stop(_unit(proxy.allocation_id), _STOP_SECONDS)
        await asyncio.to_thread(self._prepare, record)
        await self._supervisor.start(self._spec(proxy, program))
        log.info(
            "mesh proxy runs",
            allocation=proxy.allocation_id,
            service=proxy.service,
            port=proxy.port,
            links=[one.service for one in proxy.upstreams],
        )

    async def _stop(self, allocation_id: str) -> None:
        await self._supervisor.stop(_unit(allocation_id), _STOP_SECONDS)
        await asyncio.to_thread(shutil.rmtree, self._folder / allocation_id, ignore_errors=True)
        log.info("mesh proxy stopped", allocation=allocation_id)

    def _spec(self, proxy: MeshProxy, program: Path) -> UnitSpec:
        ports = [one.port for one in proxy.upstreams]
        host = self._host
        return UnitSpec(
            name=_unit(proxy.allocation_id),
            command=proxy_command(str(program), proxy, self._settings),
            working_directory=str(self._run(proxy.allocation_id)),
            memory_max_mib=_MEMORY_MAX_MIB,
            description=f"Sappers mesh proxy {proxy.allocation_id}",
            prepare=self._doors(proxy),
            clean_up=host.close_doors(proxy.allocation_id, ports) if host else (),
            user_id=self._user(proxy.allocation_id),
        )

    def _doors(self, proxy: MeshProxy) -> Command:
        ports = [one.port for one in proxy.upstreams]
        return self._host.open_doors(proxy.allocation_id, ports) if self._host else ()

    def _user(self, allocation_id: str) -> int | None:
        if self._host is None or os.geteuid() != 0:
            return None
        return self._host.user_of(allocation_id) + PROXY_USERS_BEYOND

    # -- tokens --------------------------------------------------------------------------------

    async def _check_tokens(self, proxies: Collection[MeshProxy]) -> None:
        """Have Consul know the token of each: made anew with the same secret where it is gone."""
        now = self._clock.monotonic()
        self._tokens_told = {_mark(one): self._tokens_told.get(_mark(one)) for one in proxies}
        records = [
            record
            for one in proxies
            if (told := self._tokens_told[_mark(one)]) is None
            or now - told >= _TOKENS_CHECKED_SECONDS
            if (record := self._record(one.allocation_id)) is not None
            and record.proxy.service == one.service
        ]
        await self._give_tokens(records)

    async def _give_tokens(self, records: Collection[_Record]) -> None:
        if records and self._settings.token_file and self._calls is not None:
            await self._calls.call(lambda client: _ensure_tokens(client, records))
            now = self._clock.monotonic()
            self._tokens_told |= {_mark(record.proxy): now for record in records}

    # -- files ---------------------------------------------------------------------------------

    def _run(self, allocation_id: str) -> Path:
        return self._folder / allocation_id / "run"

    def _output(self, allocation_id: str) -> Path:
        return self._run(allocation_id) / OUTPUT_LOG

    def _record(self, allocation_id: str) -> _Record | None:
        try:
            text = (self._folder / allocation_id / _RECORD).read_bytes()
            return msgspec.json.decode(text, type=_Record)
        except (OSError, *UNREADABLE):
            return None

    def _prepare(self, record: _Record) -> None:
        """Fill the proxy's folder; whatever it left there itself is gone."""
        allocation_id = record.proxy.allocation_id
        run, user = self._run(allocation_id), self._user(allocation_id)
        try:
            for folder in (self._folder, run.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(run.parent / _RECORD, msgspec.json.encode(record))
            shutil.rmtree(run, ignore_errors=True)
            run.mkdir(mode=0o700)
            if self._settings.token_file:
                write_durably(run / _TOKEN, record.secret.encode(), mode=0o400)
            if user is not None:
                for path in (*run.iterdir(), run):
                    os.chown(path, user, user)
        except OSError as error:
            raise ConsulError(f"{run.parent}: {error.strerror}") from error


def proxy_command(program: str, proxy: MeshProxy, settings: ConsulSettings) -> Command:
    """Consul's own proxy, for one guest; its certificate and who may come in it asks Consul for."""
    inward = (
        ("-service-addr", _joined(proxy.service_address, proxy.service_port)),
        ("-listen", _joined(proxy.address, proxy.port)),
    )
    upstreams = (("-upstream", f"{one.service}:127.0.0.1:{one.port}") for one in proxy.upstreams)
    return (
        *(program, "connect", "proxy", f"-http-addr={settings.address}", "-log-level=WARN"),
        *((f"-token-file={_TOKEN}",) if settings.token_file else ()),
        *("-service", proxy.service),
        *(word for pair in inward for word in pair if proxy.port),
        *(word for pair in upstreams for word in pair),
    )


def find_consul() -> Path:
    """Consul's program, from PATH or where bootstrap puts it.

    Raises:
        ConsulError: There is none.
    """
    found = shutil.which("consul", path=f"{os.environ.get('PATH', '')}:{_PROGRAM_PATH}")
    if found is None:
        raise ConsulError(
            "the mesh needs consul's program on each host",
            hint="put it (1.8 or newer) into the host's /usr/bin",
        )
    return Path(found)


def _ensure_tokens(client: consul.Consul, records: Collection[_Record]) -> None:
    """Each may register as its service, ask for that service's certificate, and find others."""
    known = {token.mark: token for token in list_tokens(client)}
    for record in records:
        mark = _mark(record.proxy)
        if there := known.get(mark):
            if client.acl.token.read(there.id).get("SecretID") == record.secret:
                continue
            client.acl.token.delete(there.id)  # of a start that was cut short
        client.acl.token.create(
            secret_id=record.secret,
            description=mark,
            service_identities=[{"ServiceName": record.proxy.service}],
        )


def _mark(proxy: MeshProxy) -> str:
    return token_mark(proxy.cluster_id, proxy.allocation_id, proxy.service)


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _unit(allocation_id: str) -> str:
    return f"{UNIT_PREFIX}{allocation_id}"


def _trim(path: Path) -> None:
    """Whoever is refused costs a line."""
    with _opened(path) as log_file:
        if log_file is not None and os.fstat(log_file).st_size > _LOG_MAX_BYTES:
            os.ftruncate(log_file, 0)


def _tail(path: Path) -> str:
    with _opened(path) as log_file:
        if log_file is None:
            return ""
        start = max(0, os.fstat(log_file).st_size - _TAIL_BYTES)
        return " ".join(os.pread(log_file, _TAIL_BYTES, start).decode(errors="replace").split())


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """A file in a folder that is the proxy's own: no link is followed."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        found = os.fstat(descriptor)
        yield descriptor if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 else None
    finally:
        os.close(descriptor)
