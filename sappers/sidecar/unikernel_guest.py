"""A guest in service that shares its process with its application."""

from __future__ import annotations

import asyncio
import socket

from sappers.sidecar.guest import Guest
from sappers.sidecar.settings import Configuration, ImageSettings
from sappers.sidecar.unikernel import Program
from sappers.sidecar.unikernel_control import TcpControlPort


class UnikernelGuest(Guest):
    """As every guest, without signals: there is no child, and sockets tell their reader."""

    def __init__(
        self,
        settings: ImageSettings,
        configuration: Configuration,
        port: TcpControlPort,
        program: Program | None,
        listener: socket.socket | None,
    ) -> None:
        super().__init__(settings, configuration, port, None, listener)
        self._program = program
        if program is not None:
            self.report()

    async def health(self) -> str:
        """Why the guest is not healthy, or empty."""
        if self._program is not None and self._program.exit_text:
            return self._program.exit_text
        return await super().health()

    def _attend(self) -> None:
        self._listen()

    def _listen(self) -> None:
        """Read what the member says; the line may be another one afterwards."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._port.fileno())
        messages, _ = self._port.receive()
        for message in messages:
            self._obey(message)
        loop.add_reader(self._port.fileno(), self._listen)
