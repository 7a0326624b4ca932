"""Logs in to one SSH server, its host key checked; a failure becomes a cause and a remedy."""

from __future__ import annotations

import errno
import logging
import shlex
import socket
from collections.abc import Callable
from typing import Any

import paramiko
from fabric import Config
from fabric import Connection as FabricConnection
from paramiko.ssh_exception import (
    AuthenticationException,
    BadAuthenticationType,
    ChannelException,
    IncompatiblePeer,
    PasswordRequiredException,
    SSHException,
)

from sappers.errors import HostOffline, HostUnreachable
from sappers.provisioner.connection.known_hosts import (
    KnownKey,
    Verdict,
    fingerprint,
    judge,
    keys_for,
    kinds_of,
    lookup_name,
    remember,
)
from sappers.provisioner.connection.proxy_command import ProxiedSocket
from sappers.provisioner.connection.ssh_config import Endpoint

LOG_CHANNEL = "sappers.ssh"
_NOBODY_THERE = (
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.ENETDOWN,
    errno.ETIMEDOUT,
)
# Authenticated encryption first: it is the fastest that paramiko has.
CIPHERS_FIRST = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


def log_in(
    host: str,
    endpoint: Endpoint,
    way: FabricConnection | socket.socket | Exception,
    timeout_seconds: float,
) -> FabricConnection:
    """Log in to one server.

    Args:
        host: The inventory's name of the host that this is for, as errors call it.
        way: The jump host before it, or a stream that leads there; else why there is none.

    Raises:
        HostUnreachable: It could not be had; says why and what to do.
    """
    silence_library_logs()
    name = endpoint.key_name or lookup_name(endpoint.address, endpoint.port)
    known = keys_for(name, endpoint.known_hosts)
    connection = FabricConnection(
        endpoint.address,
        user=endpoint.user,
        port=endpoint.port,
        config=Config(ssh_config=paramiko.SSHConfig(), lazy=True),
        gateway=way if isinstance(way, FabricConnection) else None,
        connect_kwargs=_login_arguments(endpoint, known, timeout_seconds),
    )
    connection.client.set_missing_host_key_policy(_HostKeyCheck(host, name, endpoint, known))
    connection.client.set_log_channel(LOG_CHANNEL)
    try:
        if isinstance(way, Exception):
            raise way
        if isinstance(way, socket.socket):
            connection.connect_kwargs["sock"] = way
        connection.open()
    except HostUnreachable:
        connection.client.close()
        raise
    except Exception as error:  # the library raises many kinds; a person gets one
        connection.client.close()
        if isinstance(way, socket.socket):
            way.close()
        said = way.said if isinstance(way, ProxiedSocket) else ""
        raise _explain(host, endpoint, error, said) from error
    return connection


def silence_library_logs() -> None:
    """What the library would print (tracebacks too) reaches people as errors instead."""
    for name in ("paramiko", LOG_CHANNEL):
        logger = logging.getLogger(name)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())


def _login_arguments(
    endpoint: Endpoint, known: tuple[KnownKey, ...], timeout_seconds: float
) -> dict[str, Any]:
    password = endpoint.password.reveal() if endpoint.password else None
    return {
        "key_filename": [str(path) for path in endpoint.identity_files],
        "password": password,
        "timeout": timeout_seconds,
        "banner_timeout": timeout_seconds,
        "auth_timeout": timeout_seconds * 2,
        "channel_timeout": timeout_seconds,
        "transport_factory": _transport_factory(kinds_of(known)),
    }


def _transport_factory(known_kinds: frozenset[str]) -> Callable[..., paramiko.Transport]:
    """Makes transports that prefer fast ciphers, and kinds of host keys that we know."""

    def make(sock: Any, **options: Any) -> paramiko.Transport:
        transport = paramiko.Transport(sock, **options)
        security = transport.get_security_options()
        ciphers = security.ciphers
        first = [cipher for cipher in CIPHERS_FIRST if cipher in ciphers]
        security.ciphers = (*first, *(cipher for cipher in ciphers if cipher not in first))
        kinds = set(known_kinds)
        if "ssh-rsa" in kinds:
            kinds |= {"rsa-sha2-512", "rsa-sha2-256"}  # the same keys, signing better
        security.key_types = sorted(security.key_types, key=lambda kind: kind not in kinds)
        return transport

    return make


class _HostKeyCheck(paramiko.MissingHostKeyPolicy):
    """Judges every host key: the client is given no keys of its own, so it asks for each."""

    def __init__(
        self, host: str, name: str, endpoint: Endpoint, known: tuple[KnownKey, ...]
    ) -> None:
        self._host = host
        self._name = name
        self._endpoint = endpoint
        self._known = known

    def missing_host_key(
        self,
        client: paramiko.SSHClient,  # noqa: ARG002 - the library's signature
        hostname: str,  # noqa: ARG002
        key: paramiko.PKey,
    ) -> None:
        kind, raw = key.get_name(), key.asbytes()
        verdict = judge(self._known, kind, raw)
        if verdict is Verdict.KNOWN:
            return
        if verdict is Verdict.UNKNOWN and self._endpoint.accept_new:
            self._remember(kind, raw)
            return
        raise self._error(verdict, f"{kind} {fingerprint(raw)}", kind)

    def _remember(self, kind: str, raw: bytes) -> None:
        path = self._endpoint.known_hosts[0]
        try:
            remember(path, self._name, kind, raw)
        except OSError as error:
            raise HostUnreachable(
                self._host,
                f"its new host key cannot be written to {path}: {error.strerror}",
                hint="make the file writable, or set UserKnownHostsFile to one that is",
            ) from error

    def _error(self, verdict: Verdict, shown: str, kind: str) -> HostUnreachable:
        endpoint, name = self._endpoint, self._name
        scan = _how_to_remember(endpoint)
        if verdict is Verdict.UNKNOWN:
            return HostUnreachable(
                self._host,
                f"the host key of {name} is not known: {shown}",
                hint=f"compare the fingerprint with the host's own, then run: {scan}",
            )
        if verdict is Verdict.REVOKED:
            return HostUnreachable(self._host, f"the host key of {name} is revoked: {shown}")
        valid = [key for key in self._known if not key.revoked]
        old = next((key for key in valid if key.kind == kind), valid[0])
        forget = f"ssh-keygen -f {shlex.quote(str(old.path))} -R {shlex.quote(name)}"
        if verdict is Verdict.OTHER_KIND:
            return HostUnreachable(
                self._host,
                f"the host key of {name} is of a kind that is not on file: it is {shown}, and "
                f"{old.path}:{old.line} holds {old.kind}; someone may sit in between",
                hint="compare the fingerprint with the host's own; if it has given up the other "
                f"kind, run: {forget} && {scan}",
            )
        return HostUnreachable(
            self._host,
            f"the host key of {name} has changed: it is {shown}, and {old.path}:{old.line} holds "
            "another; someone may sit in between",
            hint=f"if the host was installed anew, run: {forget} && {scan}",
        )


def _how_to_remember(endpoint: Endpoint) -> str:
    """A command that adds the key to known_hosts."""
    file = str(endpoint.known_hosts[0])
    if not (endpoint.jumps or endpoint.proxy_command or endpoint.key_name):
        return shlex.join(["ssh-keyscan", "-p", str(endpoint.port), endpoint.address]) + (
            f" >> {shlex.quote(file)}"
        )
    words = ["ssh", "-o", f"UserKnownHostsFile={file}", "-p", str(endpoint.port)]
    if endpoint.jumps:
        words += ["-J", ",".join(_as_jump(hop) for hop in endpoint.jumps)]
    if endpoint.proxy_command:
        words += ["-o", f"ProxyCommand={endpoint.proxy_command}"]
    if endpoint.key_name:
        words += ["-o", f"HostKeyAlias={endpoint.key_name}"]
    return shlex.join([*words, f"{endpoint.user}@{endpoint.address}", "true"])


def _as_jump(hop: Endpoint) -> str:
    name = f"[{hop.name}]" if ":" in hop.name else hop.name
    return f"{hop.user}@{name}:{hop.port}"


def _explain(host: str, endpoint: Endpoint, error: Exception, said: str) -> HostUnreachable:
    """The one error that a person gets for whatever the library raised.

    Args:
        said: By the ProxyCommand, if there is one.
    """
    place = lookup_name(endpoint.address, endpoint.port)
    message, hint = _cause(endpoint, error)
    if endpoint.proxy_command is not None and not isinstance(error, AuthenticationException):
        message = f"no way there by ProxyCommand `{endpoint.proxy_command}`: {said or message}"
        hint = "run the command by hand; it may ask for nothing"
    kind = HostOffline if _is_offline(error) else HostUnreachable
    return kind(host, f"{place}: {message}", hint=hint)


def _is_offline(error: Exception) -> bool:
    """Whether nobody answered, rather than somebody who refuses.

    A name that has no address now is one of a host that is off: many leave the DNS with it.
    """
    nobody = ChannelException | TimeoutError | ConnectionRefusedError | socket.gaierror
    if isinstance(error, nobody):
        return True
    return isinstance(error, OSError) and error.errno in _NOBODY_THERE


def _cause(endpoint: Endpoint, error: Exception) -> tuple[str, str | None]:
    """What went wrong, and what to do about it."""
    if isinstance(error, AuthenticationException):
        return _login_cause(endpoint, error)
    if isinstance(error, socket.gaierror | UnicodeError):
        return "the name cannot be resolved", "set ansible_host to an address"
    if isinstance(error, ChannelException):
        return (
            f"the jump host cannot reach it: {error.text}",
            "check ProxyJump, and the address as seen from there",
        )
    if isinstance(error, TimeoutError):
        return "no answer in time", "is the host up, and port 22 (or ansible_port) open to you?"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there", "is sshd running? Is ansible_port right?"
    if isinstance(error, IncompatiblePeer):
        return f"no encryption in common: {error}", "a newer OpenSSH is needed there"
    if isinstance(error, EOFError | ConnectionResetError) or "banner" in str(error):
        return (
            "the connection was closed, or is no SSH",
            "is it an sshd, and does it take more logins (MaxStartups)?",
        )
    if isinstance(error, OSError):
        return error.strerror or str(error), "is the host up, and its address right?"
    if isinstance(error, SSHException) and "No authentication methods" in str(error):
        return _nothing_to_log_in_with(endpoint)
    if isinstance(error, SSHException):
        return f"SSH failed: {error}", None
    return f"SSH failed: {error!r}", "is a private key file damaged?"


def _login_cause(endpoint: Endpoint, error: AuthenticationException) -> tuple[str, str]:
    user = endpoint.user
    if isinstance(error, PasswordRequiredException):
        return "a private key has a passphrase", "add it to an agent first: ssh-add FILE"
    if isinstance(error, BadAuthenticationType):
        allowed = ", ".join(error.allowed_types)
        return (
            f"user {user} is refused; the host lets in by {allowed} only",
            "set ansible_user, and ansible_ssh_private_key_file or ansible_password",
        )
    files = ", ".join(str(path) for path in endpoint.identity_files)
    tried = [f"key {files}" if files else "", "the agent's keys and ~/.ssh/id_*"]
    tried.append("the password" if endpoint.password else "")
    refused = f"user {user} is refused with {', '.join(word for word in tried if word)}"
    if endpoint.password:
        return refused, "check ansible_user, and ansible_password or what was typed for --ask-pass"
    return (
        refused,
        f"check ansible_user, and put your public key into ~{user}/.ssh/authorized_keys there",
    )


def _nothing_to_log_in_with(endpoint: Endpoint) -> tuple[str, str]:
    return (
        f"there is nothing to log in with as {endpoint.user}: no key in an agent or in "
        "~/.ssh/id_*, and none is named",
        "add a key to ssh-agent, set ansible_ssh_private_key_file (--private-key), or "
        "ansible_password (--ask-pass)",
    )
