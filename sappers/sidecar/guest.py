"""A guest in service: the application runs, health is pushed, the member is listened to."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from sappers.model import subjects
from sappers.sidecar.application import ApplicationProcess
from sappers.sidecar.control import ControlPort
from sappers.sidecar.health import check
from sappers.sidecar.hub import HubLink
from sappers.sidecar.log import say
from sappers.sidecar.message import Message
from sappers.sidecar.messaging import Messaging
from sappers.sidecar.settings import (
    Configuration,
    ImageSettings,
    environment_of,
    read_configuration,
)

if TYPE_CHECKING:
    from sappers.sidecar.command_check import CommandCheck
    from sappers.sidecar.local_server import LocalServer

Receive = Callable[[str, bytes], Awaitable[None]]

_HASTE_SECONDS = 0.1


class Guest:
    """What an in-process application is given, and what drives every guest.

    Attributes:
        allocation_id: Who this guest is.
        messaging: What the application can say and hear.
    """

    def __init__(
        self,
        settings: ImageSettings,
        configuration: Configuration,
        port: ControlPort,
        process: ApplicationProcess | None,
        listener: socket.socket | None = None,
    ) -> None:
        self.allocation_id = configuration.allocation_id
        self._settings = settings
        self._interval = configuration.health_interval_seconds
        self._term = configuration.term
        self._configuration = configuration
        self._port = port
        self._process = process
        self._hub = HubLink()
        self.messaging = Messaging(
            self._hub, self.allocation_id, configuration.workload, self.report
        )
        self._listener = listener
        self._local: LocalServer | None = None
        self._command: CommandCheck | None = None
        self._own_word = "" if process else "the application has not said that it is ready"
        self._boot_id = os.urandom(16).hex()
        self._sequence = 0
        self._stopping = asyncio.Event()
        self._grace_seconds = 5.0

    async def hub_connected(self) -> None:
        """Return once messages flow."""
        await self._hub.up.wait()

    async def publish(self, name: str, payload: bytes) -> bool:
        """Send on this guest's own subject, `<its prefix>.<name>`; whether it went."""
        return await self._hub.publish(f"{subjects.guest(self.allocation_id)}.{name}", payload)

    async def subscribe(self, subject: str, receive: Receive) -> None:
        """Have `receive(subject, payload)` called for each message that this guest may see."""

        async def arrived(message: Message) -> None:
            await receive(message.subject, message.payload)

        await self._hub.subscribe(subject, arrived)

    def report(self, reason: str = "") -> None:
        """Say how the application is: well, or why not; its checks must hold as well."""
        self._own_word = reason

    def end(self) -> None:
        """Switch the guest off: its work is done. For applications inside the sidecar."""
        self._stopping.set()

    async def serve(self) -> float:
        """Run until the member asks for the end; the seconds left for the application to end."""
        self._attend()
        if self._listener is not None:
            loop = asyncio.get_running_loop()
            loop.add_reader(self._listener.fileno(), self._serve_application)
        await self._hub.use(self._configuration.hub)
        tasks = [asyncio.create_task(self._push_health())]
        if self._settings.in_process:
            tasks.append(asyncio.create_task(self._run_inside()))
        await self._stopping.wait()
        for task in tasks:
            task.cancel()
        return self._grace_seconds

    async def health(self) -> str:
        """Why the guest is not healthy, or empty."""
        if self._process is not None and not self._process.alive:
            return self._process.exit_text
        if self._own_word:
            return self._own_word
        if self._settings.check.kind == "exec":
            return await self._command_check().check()
        return await check(self._settings.check)

    def _command_check(self) -> CommandCheck:
        if self._command is None:
            from sappers.sidecar.command_check import CommandCheck  # late on purpose: few need it

            settings = self._settings
            environment = environment_of(settings, self._configuration)
            self._command = CommandCheck(settings.check, settings.launch, environment, jailed=True)
        return self._command

    def _attend(self) -> None:
        """Be told from now on when the member speaks and when a process ends."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        loop.add_signal_handler(signal.SIGIO, self._listen)
        self._port.signal_changes()
        self._listen()
        self._reap()

    def _serve_application(self) -> None:
        """Somebody connects to the socket for the first time."""
        from sappers.sidecar.local_server import LocalServer  # late on purpose: few need it

        assert self._listener is not None
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._local = LocalServer(self.messaging, self._listener)
        self._local.start()

    async def _push_health(self) -> None:
        """Push every interval; look more often while the guest starts: good news comes early."""
        loop = asyncio.get_running_loop()
        due, last = 0.0, "not checked yet"
        while True:
            reason = await self._look()
            if (loop.time() >= due or reason != last) and await self._push(reason):
                due, last = loop.time() + self._interval, reason
            self._listen()  # should a SIGIO have been lost
            settled = self._hub.connected and not reason
            await asyncio.sleep(self._interval if settled else min(self._interval, _HASTE_SECONDS))

    async def _look(self) -> str:
        """As `health`, whatever happens: what cannot be looked at is not well."""
        try:
            return await self.health()
        except Exception as error:  # no room for a process, for one; it may come again
            return f"its health cannot be checked: {str(error) or type(error).__name__}"

    async def _push(self, reason: str) -> bool:
        payload: dict[str, Any] = {
            "healthy": not reason,
            "reason": reason,
            "boot_id": self._boot_id,
            "sequence": self._sequence,
        }
        if self._local is not None and self._local.refused:
            payload["refused"] = self._local.refused
        subject = subjects.guest_health(self.allocation_id)
        try:
            sent = await self._hub.publish(subject, json.dumps(payload).encode())
        except Exception as error:  # the push that is missing is the alarm; the loop must live
            say("push-failed", reason=str(error) or type(error).__name__)
            return False
        self._sequence += sent
        return sent

    async def _run_inside(self) -> None:
        try:
            module = importlib.import_module(self._settings.application)
            await module.run(self)
            self.report("the application ended")
        except Exception as error:  # whatever it is, it is the application's, and must be told
            self.report(f"the application failed: {type(error).__name__}: {error}")
            say("application-failed", reason=self._own_word)

    def _listen(self) -> None:
        """Read what the member says; wait for the next line only while it is connected."""
        loop = asyncio.get_running_loop()
        messages, connected = self._port.receive()
        for message in messages:
            self._obey(message)
        if connected:
            loop.add_reader(self._port.fileno(), self._listen)
        else:
            loop.remove_reader(self._port.fileno())

    def _obey(self, message: dict[str, Any]) -> None:
        if message.get("shutdown"):
            self._grace_seconds = float(message.get("grace_seconds", self._grace_seconds))
            self._port.send({"ok": True})
            self._stopping.set()
        elif "configure" in message:
            self._port.send(self._reconfigure(message["configure"]))
        else:
            self._port.send({"ok": False, "reason": "neither `configure` nor `shutdown`"})

    def _reconfigure(self, raw: Any) -> dict[str, Any]:
        try:
            configuration = read_configuration(raw)
        except (KeyError, TypeError, ValueError) as error:
            return {"ok": False, "reason": f"no configuration: {type(error).__name__}: {error}"}
        if configuration.allocation_id != self.allocation_id:
            return {"ok": False, "reason": f"this guest is {self.allocation_id}"}
        if configuration.term < self._term:
            reason = f"term {configuration.term} is over: the hub is that of term {self._term}"
            return {"ok": False, "reason": reason}
        self._term = configuration.term
        self._interval = configuration.health_interval_seconds
        self._switching = asyncio.create_task(self._hub.use(configuration.hub))
        return {"ok": True}

    def _reap(self) -> None:
        """PID 1 inherits every orphan."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if self._command is not None:
                    self._command.ended(*ended)
                if self._process is not None and ended[0] == self._process.pid:
                    self._process.ended(ended[1])
                    say("application-ended", reason=self._process.exit_text)
