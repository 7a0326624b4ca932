"""What is said to a guest's QEMU, over the monitor in its folder: QMP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from qemu.qmp import QMPClient, QMPError

from sappers.errors import LaunchError, PortTaken
from sappers.launchers import command
from sappers.launchers.guest_folder import GuestFolder

_ANSWER_SECONDS = 5.0
_START_SECONDS = 15.0
_MIGRATION_SECONDS = 60.0
_POLL_SECONDS = 0.001  # it is over soon, and everybody waits
_LOOK_SECONDS = 0.5  # asking a supervisor takes a process
# A socket that does not answer yet is no error; what is one is raised.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


class Monitor:
    """A conversation with one QEMU; methods raise `LaunchError` when it refuses or hangs."""

    def __init__(self, client: QMPClient) -> None:
        self._client = client

    async def execute(self, name: str, **arguments: Any) -> Any:
        """Run one command; what it returns."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._client.execute(name, arguments or None)
        except (QMPError, OSError, EOFError, TimeoutError) as error:
            raise LaunchError(f"QEMU does not answer {name}: {error}") from error

    async def save(self, device: int) -> None:
        """Stop the machine and write all of it but its memory, which is a shared file."""
        await self.execute("stop")
        await self._migrate("migrate", device)

    async def restore(self, device: int) -> None:
        """Become the machine that was saved; it stands still until `cont`."""
        await self._migrate("migrate-incoming", device)

    async def publish(self, command_line: str) -> None:
        """Open a port, which QEMU does for people alone: what goes wrong is what it prints.

        Raises:
            PortTaken: Somebody has taken it since it was looked at.
        """
        found = await self.execute("human-monitor-command", **{"command-line": command_line})
        if problem := str(found).strip():
            raise PortTaken(f"QEMU cannot {command_line}: {problem}")

    async def _migrate(self, name: str, device: int) -> None:
        # The sandbox lets QEMU run no program and the file is not in its folder: it is handed over.
        shared = {"capability": "x-ignore-shared", "state": True}
        self._client.send_fd_scm(device)
        await asyncio.gather(  # they are done in this order, so none waits for the answer before
            self.execute("migrate-set-capabilities", capabilities=[shared]),
            self.execute("getfd", fdname="device"),
            self.execute(name, uri="fd:device"),
        )
        deadline = time.monotonic() + _MIGRATION_SECONDS
        while (status := (await self.execute("query-migrate")).get("status")) != "completed":
            if status in ("failed", "cancelled") or time.monotonic() > deadline:
                raise LaunchError(f"QEMU cannot {name} the machine's state: {status}")
            await asyncio.sleep(_POLL_SECONDS)


@contextlib.asynccontextmanager
async def monitor(folder: GuestFolder) -> AsyncIterator[Monitor]:
    """A conversation with a QEMU that runs.

    Raises:
        LaunchError: It does not answer.
    """
    client = QMPClient("sappers")
    try:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await client.connect(await folder.connect(command.QMP_SOCKET))
        except (QMPError, OSError, EOFError, TimeoutError) as error:
            raise LaunchError(f"QEMU does not answer: {error}") from error
        yield Monitor(client)
    finally:
        with contextlib.suppress(QMPError, OSError, EOFError):
            await client.disconnect()


@contextlib.asynccontextmanager
async def first_monitor(
    folder: GuestFolder, runs: Callable[[], Awaitable[bool]]
) -> AsyncIterator[Monitor]:
    """As `monitor`, with a QEMU that has just been started: once it has set up everything.

    Args:
        folder: The guest's.
        runs: Whether its process still does.

    Raises:
        LaunchError: It ends or does not answer.
    """
    socket = folder.run / command.QMP_SOCKET
    deadline = time.monotonic() + _START_SECONDS
    look_at = time.monotonic() + _LOOK_SECONDS
    async with contextlib.AsyncExitStack() as stack:
        while True:
            if socket.exists():
                try:
                    it = await stack.enter_async_context(monitor(folder))
                    await it.execute("query-status")
                    break
                except LaunchError:
                    look_at = 0.0
            if time.monotonic() > look_at:
                if not await runs():
                    raise LaunchError("QEMU ended at once")
                look_at = time.monotonic() + _LOOK_SECONDS
            if time.monotonic() > deadline:
                raise LaunchError("QEMU does not answer")
            await asyncio.sleep(_POLL_SECONDS)
        yield it
