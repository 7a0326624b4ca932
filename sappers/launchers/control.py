"""What the launcher says to a guest's sidecar, over the control port's socket in its folder."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import msgspec

from sappers.errors import GuestMisbehaves, LaunchError
from sappers.launchers.guest_folder import GuestFolder
from sappers.launchers.guest_identity import CONTROL_SOCKET, HOST_SEEN_BY_GUEST, mac_for
from sappers.model.known_types import UNREADABLE

_SEED_BYTES = 32
_PREPARE_SECONDS = 120.0  # it imports a lot, and whoever waits for it is not in a hurry
_CLONE_SECONDS = 15.0
# A sidecar says that it waits twice a second, for as long as a boot may take.
_MESSAGES_MAX = 1000

Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def configuration(
    allocation_id: str,
    workload: str,
    servers: tuple[str, ...],
    ca_pem: str,
    tls_name: str,
    credentials: str,
    health_interval_seconds: float,
    now: float,
    links: Mapping[str, int],
    term: int = 0,
    names: Mapping[str, str] = {},
) -> dict[str, Any]:
    """The message that makes a booted machine this allocation's guest.

    Servers must show certificates with the names that `names` has of them, or else `tls_name`.

    A hub on the host's loopback, as on a developer's machine, has another address from inside; so
    have `links`, ports of that loopback by what the workload calls them. `term` is that of the
    leader who chose the hub's servers; a guest takes no older one's word.
    """
    return {
        "configure": {
            "allocation_id": allocation_id,
            "workload": workload,
            "hub": {
                "servers": [_seen_by_guest(server) for server in servers],
                "ca_pem": ca_pem,
                "tls_name": tls_name,
                "names": {one: name for one, name in names.items() if _seen_by_guest(one) == one},
                "credentials": credentials,
            },
            "health_interval_seconds": health_interval_seconds,
            "links": {link: f"{HOST_SEEN_BY_GUEST}:{port}" for link, port in links.items()},
            "now": now,
            "term": term,
            "mac": mac_for(allocation_id),
            "seed": secrets.token_hex(_SEED_BYTES),
        }
    }


async def configure(
    folder: GuestFolder, message: Callable[[], dict[str, Any]], boot_seconds: float
) -> None:
    """Hand a configuration over once the sidecar asks for it, or after `boot_seconds` anyhow.

    A sidecar that was configured before does not ask; one that boots does, and the time in the
    message must not have waited for it.

    Raises:
        LaunchError: It does not answer, or refuses.
    """
    async with connection(folder) as (reader, writer):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(boot_seconds):
                await _next_message(reader)
        _send(writer, message())
        await _confirmation(reader, timeout_seconds=5.0)


async def rehearse(connected: Connected) -> None:
    """Have a machine that is nobody yet read a configuration, and forget it.

    An emulated processor translates code when it first comes to it; what was translated here is
    there when the guest is told who it is. A sidecar that knows no rehearsals refuses: as good.

    Raises:
        LaunchError: It does not answer.
    """
    reader, writer = connected
    nobody = configuration("rehearsal", "", (), "", "", "", 1.0, 0.0, {})
    _send(writer, {"rehearse": nobody["configure"]})
    async with _in_time(_CLONE_SECONDS):
        await _answer(reader)


async def configure_clone(connected: Connected, message: dict[str, Any]) -> None:
    """Tell a machine that has just been restored who it is.

    Raises:
        LaunchError: It does not answer, or refuses.
    """
    reader, writer = connected
    _send(writer, message)
    await _confirmation(reader, timeout_seconds=_CLONE_SECONDS)


async def prepare(connected: Connected, boot_seconds: float) -> None:
    """Have a machine that boots get ready to be saved; returns once it holds still.

    Raises:
        LaunchError: It does not come up, or cannot be saved.
    """
    reader, writer = connected
    try:
        async with asyncio.timeout(boot_seconds):
            await _next_message(reader)
    except TimeoutError as error:
        raise LaunchError("the guest's sidecar does not come up") from error
    _send(writer, {"prepare": True})
    await _confirmation(reader, timeout_seconds=_PREPARE_SECONDS)


async def ask_to_shut_down(folder: GuestFolder, grace_seconds: float) -> None:
    """Have the sidecar end the application and switch the guest off.

    Raises:
        LaunchError: It does not answer.
    """
    async with connection(folder) as (reader, writer):
        _send(writer, {"shutdown": True, "grace_seconds": grace_seconds})
        await _confirmation(reader, timeout_seconds=min(grace_seconds, 3.0))


@contextlib.asynccontextmanager
async def connection(folder: GuestFolder) -> AsyncIterator[Connected]:
    """A conversation with the sidecar; with what breaks in it as `LaunchError`.

    Raises:
        LaunchError: Its socket does not open, or it hangs up.
    """
    try:
        connected = await folder.connect(CONTROL_SOCKET)
        reader, writer = await asyncio.open_unix_connection(sock=connected)
    except OSError as error:
        raise LaunchError(f"the guest's control socket does not open: {error.strerror}") from error
    try:
        with conversing():
            yield reader, writer
    finally:
        writer.close()


@contextlib.contextmanager
def conversing() -> Iterator[None]:
    """A block that reads and writes at a sidecar's line; how that ends as `LaunchError`."""
    try:
        yield
    except (asyncio.LimitOverrunError, ValueError) as error:
        raise GuestMisbehaves("the guest's sidecar says a line without end") from error
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        raise LaunchError("the guest hung up") from error


def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(msgspec.json.encode(message) + b"\n")


async def _next_message(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next line that is a message; what is none is passed over, up to a bound.

    Raises:
        GuestMisbehaves: There are too many of those.
    """
    for _ in range(_MESSAGES_MAX):
        line = await reader.readuntil(b"\n")
        # Bytes that are no text, and nesting without end, are other errors than bad JSON.
        with contextlib.suppress(*UNREADABLE):
            return msgspec.json.decode(line, type=dict[str, Any])
    raise GuestMisbehaves("the guest's sidecar talks nonsense without end")


async def _confirmation(reader: asyncio.StreamReader, timeout_seconds: float) -> None:
    async with _in_time(timeout_seconds):
        answer = await _answer(reader)
    if answer["ok"] is not True:
        reason = str(answer.get("reason", ""))[:200]
        raise LaunchError(f"the guest's sidecar refuses: {reason}")


async def _answer(reader: asyncio.StreamReader) -> dict[str, Any]:
    for _ in range(_MESSAGES_MAX):
        if "ok" in (answer := await _next_message(reader)):
            return answer
    raise GuestMisbehaves("the guest's sidecar talks without end and answers nothing")


@contextlib.asynccontextmanager
async def _in_time(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise LaunchError("the guest's sidecar does not answer") from error


def _seen_by_guest(server: str) -> str:
    host, _, port = server.rpartition(":")
    return f"{HOST_SEEN_BY_GUEST}:{port}" if host.startswith("127.") else server
