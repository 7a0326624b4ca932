"""How a healer logs in to a host: with a certificate, and only to the host key that it was told.

It needs no file and no settings of a user's: key and certificate are in memory, and the host's
keys come with the credential.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from sappers.errors import HostUnreachable
from sappers.provisioner.executor.executor import Executor
from sappers.provisioner.executor.start import start_program

if TYPE_CHECKING:
    from sappers.provisioner.inventory.host_values import Secret

_KEEPALIVE_SECONDS = 5
_KEY_BYTES = 32


class RepairTarget(msgspec.Struct, frozen=True):
    """A host to repair; what starts the executor takes it as the account.

    Attributes:
        host_keys: The only keys that it may show, `ssh-ed25519 AAAA…` each.
    """

    name: str
    address: str
    port: int
    user: str
    become: bool
    host_keys: tuple[str, ...]
    become_user: str = "root"
    become_method: str = "sudo"
    become_password: Secret | None = None
    python_interpreter: str | None = None


class RepairKeyPair:
    """An Ed25519 key that nobody else ever has: made here, never written down.

    Attributes:
        public: `ssh-ed25519 AAAA…`.
    """

    def __init__(self) -> None:
        # From the kernel itself: what a library's generator gives out may be known to another
        # guest that started from the same checkpoint.
        key = Ed25519PrivateKey.from_private_bytes(os.urandom(_KEY_BYTES))
        self.public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        text = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        self._key = paramiko.Ed25519Key(file_obj=io.StringIO(text))

    def certified(self, certificate: str) -> paramiko.PKey:
        """The key with what the authority says of it."""
        self._key.load_certificate(certificate)
        return self._key


@contextmanager
def open_executor(
    target: RepairTarget, key: RepairKeyPair, certificate: str, timeout_seconds: float = 10.0
) -> Iterator[Executor]:
    """Log in, and have an executor as root on the host while the block runs.

    Raises:
        HostUnreachable: No connection, the host's key is another, or the certificate is refused.
        HostUnfit, PrivilegeError: As `start_program`.
    """
    transport = _log_in(target, key.certified(certificate), timeout_seconds)
    try:
        transport.set_keepalive(_KEEPALIVE_SECONDS)
        # A healer runs on an emulated processor; its host is the quicker one to compile.
        started = start_program(transport, target, compiles=False)
        executor = Executor(target.name, started.channel, started.rest, started.bytecode)
        try:
            yield executor
        finally:
            executor.close()
    finally:
        with contextlib.suppress(Exception):  # a dead connection need not end well
            transport.close()


def knock(address: str, port: int, timeout_seconds: float = 5.0) -> str:
    """Why nothing answers there, or empty."""
    try:
        socket.create_connection((address, port), timeout_seconds).close()
    except OSError as error:
        return _why(error)
    return ""


def _why(error: OSError) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)


def _log_in(target: RepairTarget, key: paramiko.PKey, timeout: float) -> paramiko.Transport:
    try:
        stream = socket.create_connection((target.address, target.port), timeout)
    except OSError as error:
        raise _unreachable(target, _why(error)) from error
    transport = paramiko.Transport(stream)
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = 2 * timeout
    try:
        _prefer_known_kinds(transport, target)
        transport.start_client(timeout=2 * timeout)
        shown = transport.get_remote_server_key()
        line = f"{shown.get_name()} {base64.b64encode(shown.asbytes()).decode()}"
        if line not in target.host_keys:
            raise _unreachable(target, "it shows another host key than bootstrap saw")
        transport.auth_publickey(target.user, key)
    except (paramiko.SSHException, OSError, EOFError) as error:
        transport.close()
        if isinstance(error, HostUnreachable):
            raise
        refused = isinstance(error, paramiko.AuthenticationException)
        why = f"user {target.user} is refused with the certificate" if refused else str(error)
        raise _unreachable(target, why or "the connection ended") from error
    return transport


def _prefer_known_kinds(transport: paramiko.Transport, target: RepairTarget) -> None:
    kinds = {line.split()[0] for line in target.host_keys}
    if "ssh-rsa" in kinds:
        kinds |= {"rsa-sha2-512", "rsa-sha2-256"}  # the same keys, signing better
    security = transport.get_security_options()
    security.key_types = sorted(security.key_types, key=lambda kind: kind not in kinds)


def _unreachable(target: RepairTarget, why: str) -> HostUnreachable:
    return HostUnreachable(
        target.name, f"no SSH to {target.user}@{target.address} port {target.port}: {why}"
    )
