"""The way to a host's sshd, before anything of SSH is there to speak over it.

What speaks SSH takes about as long to import as an sshd takes to begin for whoever dials it.
Whoever dials first has both at once.
"""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec

from sappers.errors import HostUnreachable
from sappers.provisioner.connection.proxy_command import ProxiedSocket
from sappers.provisioner.connection.ssh_config import Endpoint, read_ssh_config, resolve_endpoint
from sappers.provisioner.inventory.host import Host

# A peer that vanished is noticed after about 20 s, even while nothing is sent.
KEEPALIVE_SECONDS = 5
KEEPALIVE_PROBES = 3
SILENCE_MAX_SECONDS = 20


class Dialled(msgspec.Struct, frozen=True):
    """How a host is reached.

    Attributes:
        stream: Leads to its sshd, or to that of its first jump host; else why it does not.
        timeout_seconds: For each step of logging in.
    """

    endpoint: Endpoint
    stream: socket.socket | Exception
    timeout_seconds: float


def dial(host: Host, *, connect_timeout_seconds: float = 10.0) -> Dialled:
    """Connect to where SSH is to connect to first; nothing is said there yet.

    Raises:
        HostUnreachable: What is known of the host leads nowhere.
        InventoryError: `~/.ssh/config` cannot be read.
    """
    home = Path.home()
    endpoint = resolve_endpoint(host, read_ssh_config(home), home)
    if host.private_key_file and not host.private_key_file.is_file():
        raise HostUnreachable(
            host.name,
            f"the private key {host.private_key_file} does not exist",
            hint="check ansible_ssh_private_key_file",
        )
    servers = (*endpoint.jumps, endpoint)
    for server in servers:
        if server.address.count(":") == 1 or "@" in server.address:
            # Fabric would take it apart.
            raise HostUnreachable(
                host.name,
                f"{server.address!r} is no address",
                hint="ansible_port and ansible_user say where and as whom",
            )
    timeout_seconds = endpoint.connect_timeout_seconds or connect_timeout_seconds
    stream: socket.socket | Exception
    try:
        stream = _stream_to(servers[0], timeout_seconds)
    except Exception as error:  # who logs in has the words for all of them
        stream = error
    return Dialled(endpoint, stream, timeout_seconds)


def _stream_to(server: Endpoint, timeout_seconds: float) -> socket.socket:
    if server.proxy_command is not None:
        return ProxiedSocket(server.proxy_command)
    stream = socket.create_connection((server.address, server.port), timeout_seconds)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MAX_SECONDS * 1000)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream
