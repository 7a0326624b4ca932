"""One SSH connection to one host. Host keys are always checked; every failure names its cause."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import paramiko
from fabric import Connection as FabricConnection

from sappers.errors import HostUnreachable
from sappers.provisioner.connection.dial import KEEPALIVE_SECONDS, Dialled, dial
from sappers.provisioner.connection.login import log_in
from sappers.provisioner.connection.ssh_config import Endpoint
from sappers.provisioner.connection.tunnels import Gate, Tunnel, dial_and_join, listen_and_join
from sappers.provisioner.executor.executor import Executor
from sappers.provisioner.executor.raw_command import RawCommand, run_over
from sappers.provisioner.executor.start import MODULES, TASK_MODULES, Account, start_program
from sappers.provisioner.inventory.host import Host
from sappers.provisioner.modules.step import Completed

CHANNEL_SECONDS = 10.0
LOOPBACK = "127.0.0.1"


class Connection:
    """An open SSH connection. Blocking; work on each host in a thread of its own."""

    def __init__(self, host: Host, endpoint: Endpoint, chain: list[FabricConnection]) -> None:
        self.host = host
        self._endpoint = endpoint
        self._chain = chain
        self._executors: list[Executor] = []
        self._reverse: dict[int, Tunnel] = {}

    @classmethod
    def open(cls, host: Host, *, connect_timeout_seconds: float = 10.0) -> Connection:
        """Connect, check the host's key and log in.

        Raises:
            HostUnreachable: No session could be had; says why and what to do.
            InventoryError: `~/.ssh/config` cannot be read.
        """
        return cls.over(dial(host, connect_timeout_seconds=connect_timeout_seconds), host)

    @classmethod
    def over(cls, dialled: Dialled, host: Host) -> Connection:
        """Log in where a host was dialled.

        Raises:
            HostUnreachable: As `open`.
        """
        endpoint = dialled.endpoint
        chain: list[FabricConnection] = []
        try:
            for hop in (*endpoint.jumps, endpoint):
                way = chain[-1] if chain else dialled.stream
                chain.append(log_in(host.name, hop, way, dialled.timeout_seconds))
        except BaseException:
            _close_all(chain)
            raise
        connection = cls(host, endpoint, chain)
        connection._transport.set_keepalive(KEEPALIVE_SECONDS)
        return connection

    @property
    def address(self) -> str:
        """The address connected to, after `~/.ssh/config`; a jump host's view of it if jumped."""
        return self._endpoint.address

    @property
    def user(self) -> str:
        """The user logged in as."""
        return self._endpoint.user

    @property
    def port(self) -> int:
        """The port connected to."""
        return self._endpoint.port

    @property
    def host_keys(self) -> tuple[str, ...]:
        """The key that the host has proved to have, as a public line: `ssh-ed25519 AAAA…`."""
        key = self._transport.get_remote_server_key()
        return (f"{key.get_name()} {key.get_base64()}",)

    @property
    def _transport(self) -> paramiko.Transport:
        transport: paramiko.Transport = self._chain[-1].transport
        return transport

    def start_executor(
        self, account: Account | None = None, *, runs_tasks: bool = False
    ) -> Executor:
        """Start the executor on the host, as the account says; else as the host's `become` does.

        A Python below 3.11 (from 3.8) runs the executor too: see `Facts.python_version`.

        Args:
            runs_tasks: For a `TaskSession`, which else sends what it needs.

        Raises:
            HostUnreachable: The connection is gone.
            HostUnfit: No Python 3.8 or newer.
            PrivilegeError: sudo refuses, is missing or wants a password that we have not.
        """
        modules = MODULES + TASK_MODULES if runs_tasks else MODULES
        started = start_program(self._transport, account or self.host, modules=modules)
        executor = Executor(
            self.host.name, started.channel, started.rest, started.bytecode, runs_tasks=runs_tasks
        )
        self._executors.append(executor)
        return executor

    def run_raw(self, command: RawCommand) -> Completed:
        """Run a command line without Python. Raises HostUnreachable."""
        return run_over(self._transport, self.host.name, command)

    @contextmanager
    def open_reverse_tunnel(
        self,
        remote_port: int,
        to: tuple[str, int],
        *,
        gate: Callable[[], Gate] | None = None,
        refusal: bytes = b"",
    ) -> Iterator[int]:
        """Let the host reach `to` (as seen from here) at its own 127.0.0.1 while the block runs.

        Args:
            remote_port: Port on the host; 0 for any free one.
            to: Address and port on this side.
            gate: Makes, for each connection, what the host's bytes must pass.
            refusal: What the host is told when its gate ends a connection.

        Yields:
            The port on the host's 127.0.0.1.

        Raises:
            HostUnreachable: The connection is gone, or its sshd forwards no ports.
        """
        self._reverse[remote_port] = Tunnel(to, gate, refusal)  # before the host may dial it
        try:
            port = self._transport.request_port_forward(LOOPBACK, remote_port, self._accept)
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._reverse.pop(remote_port)
            raise HostUnreachable(
                self.host.name,
                f"sshd opens no port for us: {error}",
                hint="AllowTcpForwarding must not be `no`, and the port must be free",
            ) from error
        if port != remote_port:  # what the host may not dial, nor after the end
            self._reverse[port] = self._reverse.pop(remote_port)
        try:
            yield port
        finally:
            self._reverse.pop(port)
            with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
                # The library's own cancel would drop the handler of the other tunnels too.
                self._transport.global_request("cancel-tcpip-forward", (LOOPBACK, port))

    def _accept(
        self, channel: paramiko.Channel, origin: tuple[str, int], server: tuple[str, int]
    ) -> None:
        """One handler serves all tunnels of a transport; the port tells them apart."""
        del origin
        tunnel = self._reverse.get(server[1])
        if tunnel is None:
            channel.close()
        else:
            dial_and_join(channel, tunnel)

    @contextmanager
    def open_forward(self, to: tuple[str, int]) -> Iterator[tuple[str, int]]:
        """Reach `to` (as seen from the host) at an address and port of this machine's loopback.

        A connection that the host cannot make shows as one that is closed at once.

        Yields:
            Address and port to connect to here, as often as wanted.
        """

        def dial() -> paramiko.Channel:
            return self._transport.open_channel(
                "direct-tcpip", dest_addr=to, src_addr=(LOOPBACK, 0), timeout=CHANNEL_SECONDS
            )

        with listen_and_join(dial) as address:
            yield address

    def close(self) -> None:
        """End the executor and the connection; may be called twice."""
        for executor in self._executors:
            executor.close()
        _close_all(self._chain)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close_all(chain: list[FabricConnection]) -> None:
    for connection in reversed(chain):
        with contextlib.suppress(Exception):  # a dead connection need not end well
            connection.client.close()
