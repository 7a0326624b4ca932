"""Whole agents on loopback addresses, as real processes, without systemd or a provisioner."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import secrets
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import msgspec

from sappers.api.https_calls import Peer
from sappers.api.image_calls import ImageCalls
from sappers.api.operator_client import OperatorClient
from sappers.api.progress import Progress
from sappers.api.ways import Endpoint, Reached
from sappers.api.wire import WantedImage
from sappers.config import StateFolder
from sappers.errors import ApiError, SappersError
from sappers.hub.credentials import AgentCredentials, create_hub_account
from sappers.model.member import Ports
from sappers.model.view import ClusterView
from sappers.security.authority import create_authority
from sappers.supervision import DetachedSupervisor
from tests.identities import make_cluster_identities, make_operator_identity
from tests.image_stores import KEY, make_store, put_image
from tests.loopback import own_network
from tests.waiting import wait_until

WHOLE_SECONDS = 150.0  # until all members say the same, on a machine that is slow and busy
PORTS = Ports(gossip=17946, raft=22000, http=21000, hub=14222, hub_routes=16222)


class Agents:
    """A cluster's agents; one loopback address each."""

    def __init__(
        self,
        folder: Path,
        names: list[str],
        *,
        bootstrap: int = 3,
        network: str | None = None,
        images: Mapping[str, Mapping[str, float]] | None = None,
        more_settings: str = "",
    ) -> None:
        """`images` has settings for images by name of an agent; `more_settings` are of all."""
        network = network or own_network()
        self.folder = folder
        self.names = names
        self._images = images or {}
        self._more_settings = more_settings
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        authority = create_authority("test")
        self.addresses = {name: f"{network}{10 + n}" for n, name in enumerate(names, 1)}
        make_cluster_identities(
            folder, names, authority=authority, addresses=list(self.addresses.values())
        )
        operator = make_operator_identity(folder, authority)
        self.operator = operator
        # What was written through one member may not be missed in the answer of another.
        self._progress = Progress()
        self.client = self._client_of(*names)
        self._clients_at = {name: self._client_of(name) for name in names}
        gossip_key = base64.b64encode(secrets.token_bytes(32))
        account = create_hub_account("test")
        for name in names:
            state = StateFolder(folder / name)
            state.hub.mkdir(mode=0o700)
            _secret(state.gossip_key, gossip_key)
            _secret(state.hub_seed, account.account_seed.encode())
            (state.hub / "operator.jwt").write_text(account.operator_jwt)
            (state.hub / "account.jwt").write_text(account.account_jwt)
            _secret(state.node_id, name.encode())
            state.settings.write_text(self._settings_of(name, bootstrap))

    def _settings_of(self, name: str, bootstrap: int) -> str:
        settings = {
            "cluster": "test",
            "node_name": name,
            "address": self.addresses[name],
            "peers": [f"{address}:{PORTS.gossip}" for address in self.addresses.values()],
            "bootstrap": bootstrap if name == self.names[0] else 0,
        }
        ports = msgspec.to_builtins(PORTS)
        lines = [
            f"{key} = {msgspec.json.encode(value).decode()}" for key, value in settings.items()
        ]
        lines += ["[ports]", *(f"{key} = {port}" for key, port in ports.items())]
        images = self._images.get(name, {})
        lines += ["[images]", *(f"{key} = {value}" for key, value in images.items())]
        lines += [self._more_settings, "[[image_keys]]", f'key = "{KEY.public}"', 'owner = "test"']
        return "\n".join(lines)

    def __enter__(self) -> Self:
        """All of them run in the block, and nothing of them after it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        asyncio.run(self.sweep())

    def credentials_of(self, name: str) -> AgentCredentials:
        """What a member admits itself and its guests to the hub with."""
        state = StateFolder(self.folder / name)
        return AgentCredentials(state.hub_seed.read_text(), state.hub_key.read_text())

    def start(self, *names: str) -> None:
        for name in names or self.names:
            log = (self.folder / f"{name}.log").open("ab")
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "sappers.cli.agent", str(self.folder / name)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            log.close()

    def kill(self, name: str) -> None:
        """Kill -9 of the agent; its raft process, where it has one, has ended when this returns."""
        kill_agent(self._processes.pop(name))

    def hang(self, name: str) -> None:
        """Nothing of the agent goes on, gossip's threads neither; its raft process does."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        """End that."""
        self._processes[name].send_signal(signal.SIGCONT)

    def raft_process_of(self, name: str) -> int:
        """The process id of a voter's Raft, which is the agent's child."""
        processes = _raft_processes_of(self._processes[name].pid)
        assert processes, f"{name} has no raft process"
        return processes[0]

    def stop(self, name: str) -> int:
        process = self._processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(60)

    def view(self) -> ClusterView | None:
        try:
            return self.client.view()
        except SappersError:
            return None

    def client_at(self, name: str) -> OperatorClient:
        """A client that asks one agent alone; it is everybody's."""
        return self._clients_at[name]

    def at(self, name: str) -> Reached:
        """One agent, for calls to it alone."""
        return Reached(self._endpoint(name), Peer(name, self.addresses[name], PORTS.http, name))

    def insist(self, what: str, write: Callable[[], object]) -> None:
        """Have something written that may be written twice; a leader may only just be lost."""

        def written() -> bool:
            try:
                write()
            except ApiError as error:
                if error.status not in (0, 503, 504):
                    raise
                return False
            return True

        wait_until(what, written)

    def _endpoint(self, name: str) -> Endpoint:
        return Endpoint(name, self.addresses[name], PORTS.http, name)

    def _client_of(self, *names: str) -> OperatorClient:
        endpoints = [self._endpoint(name) for name in names]
        return OperatorClient(self.operator, endpoints, progress=self._progress)

    def log_of(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def is_whole(self) -> bool:
        """Every member alive, one leader, hub up, all on one index."""
        return is_whole(self.view(), len(self.names))

    def close(self) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for client in (self.client, *self._clients_at.values()):
            client.close()

    async def sweep(self) -> None:
        """Stop what outlives agents on purpose: hub servers and guests."""
        for name in self.names:
            folder = self.folder / name / "processes"
            if folder.exists():
                supervisor = DetachedSupervisor(folder)
                for unit in await supervisor.list("sappers-"):
                    await supervisor.stop(unit.name, 1.0)


def kill_agent(process: subprocess.Popen[bytes]) -> None:
    """Kill -9 of an agent; its raft process, where it has one, has ended when this returns."""
    with contextlib.ExitStack() as children:
        ends = [os.pidfd_open(child) for child in _raft_processes_of(process.pid)]
        for end in ends:
            children.callback(os.close, end)
        process.kill()
        process.wait()
        for end in ends:
            select.select([end], [], [])


def _raft_processes_of(agent: int) -> list[int]:
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    return [int(child) for child in children if b"sappers.consensus.process" in _command_of(child)]


def _command_of(process: str) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it ended just now
        return b""


def _secret(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def is_whole(view: ClusterView | None, members: int) -> bool:
    """So many members alive, one leader, hub up, all on one index."""
    if view is None or not view.has_quorum or len(view.members) != members:
        return False
    indexes = {one.applied_index for one in view.members}
    hubs = {one.hub for one in view.members if one.member.id in view.hub_servers}
    return len(indexes) == 1 and None not in indexes and hubs == {"running"}


def image_at(cluster: Agents, name: str, image: str = "empty") -> WantedImage:
    """An image whose chunks nobody has; it is never launched here."""
    store = make_store(cluster.folder / "control")
    digest = put_image(store, image)
    signed = store.signed(digest)
    assert signed is not None
    ImageCalls(cluster.client).put_at(cluster.at(name), digest, signed)
    return WantedImage(image, digest)
