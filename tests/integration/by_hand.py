"""Agents started with flags alone, several on one machine, as a person at a terminal does it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from sappers.api.operator_client import OperatorClient
from sappers.api.ways import Endpoint
from sappers.assembly.by_hand import KEYS_FOLDER
from sappers.cli.session import endpoints_of
from sappers.errors import SappersError
from sappers.model.view import ClusterView
from sappers.provisioner.control.record import (
    OPERATOR_CERTIFICATE_FILE,
    OPERATOR_KEY_FILE,
    load_record,
)
from sappers.security.identity import load_identity
from sappers.security.tls import Identity
from sappers.supervision import DetachedSupervisor
from tests.integration.agents import is_whole, kill_agent

SAPPERS = Path(sys.executable).with_name("sappers")
STOP_SECONDS = 60


class AgentsByHand:
    """Agents of one machine, at ports one above the other of one address."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.address = address
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def flags(self, number: int) -> list[str]:
        """Where the agent of a number listens."""
        return [
            *("--node-id", f"node{number}", "--gossip-port", str(17945 + number)),
            *("--raft-addr", f"{self.address}:{21999 + number}"),
            *("--http-addr", f":{20999 + number}"),
        ]

    def start(self, number: int, *more: str, packages: Path | None = None) -> None:
        """Start one; what it logs is in `nodeN.log`. `packages`: where another `sappers` is."""
        name = f"node{number}"
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [SAPPERS, *self.flags(number), *more, self.folder / name],
                env=os.environ | ({"PYTHONPATH": str(packages)} if packages else {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self, name: str) -> None:
        kill_agent(self._processes.pop(name))

    def run(
        self, *arguments: str, program: str = "sappers", timeout_seconds: float = 180
    ) -> subprocess.CompletedProcess[str]:
        """`sappers ARGUMENTS`, to its end."""
        return subprocess.run(
            [SAPPERS.with_name(program), *arguments],
            env=os.environ | {"NO_COLOR": "1", "COLUMNS": "120"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_seconds,
        )

    def log_of(self, name: str) -> str:
        """The lines that it has written to their end."""
        text = (self.folder / f"{name}.log").read_text()
        return text[: text.rfind("\n") + 1]

    def view(self) -> ClusterView | None:
        """The cluster as an operator with the keys sees it, or None while nobody answers."""
        with contextlib.suppress(SappersError):
            keys = self.folder / KEYS_FOLDER
            with OperatorClient(self._operator(), endpoints_of(load_record(keys))) as client:
                return client.view()
        return None

    def client_at(self, number: int) -> OperatorClient:
        """The API of one agent."""
        endpoint = Endpoint(f"node{number}", self.address, 20999 + number, f"node{number}")
        return OperatorClient(self._operator(), [endpoint], alone=True)

    def _operator(self) -> Identity:
        keys = self.folder / KEYS_FOLDER
        return load_identity(keys, cert=OPERATOR_CERTIFICATE_FILE, key=OPERATOR_KEY_FILE)

    def is_whole(self, count: int) -> bool:
        """Every member alive, one leader, hub up, all on one index."""
        return is_whole(self.view(), count)

    def close(self) -> None:
        """End them all, and what outlives them on purpose: hub servers and guests."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        asyncio.run(self._sweep())

    async def _sweep(self) -> None:
        for folder in self.folder.glob("*/processes"):
            supervisor = DetachedSupervisor(folder)
            for unit in await supervisor.list("sappers-"):
                await supervisor.stop(unit.name, 1.0)
