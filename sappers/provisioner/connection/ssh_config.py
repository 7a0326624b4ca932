"""Where SSH connects to for a host: its inventory variables over `~/.ssh/config` over defaults."""

from __future__ import annotations

import getpass
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paramiko import SSHConfig
from paramiko.ssh_exception import ConfigParseError, SSHException

from sappers.errors import InventoryError
from sappers.provisioner.inventory.host import Host
from sappers.provisioner.inventory.host_values import Secret
from sappers.provisioner.inventory.ssh_options import read_port

SYSTEM_KNOWN_HOSTS = (Path("/etc/ssh/ssh_known_hosts"), Path("/etc/ssh/ssh_known_hosts2"))
_JUMP = re.compile(
    r"(?:ssh://)?(?:([^@]+)@)?(\[[^\]]+\]|[^:@\[\]]+|[0-9a-fA-F:]+:[0-9a-fA-F:]+)(?::([0-9]+))?/?"
)


@dataclass(frozen=True)
class Endpoint:
    """One SSH server and how to log in there.

    Attributes:
        identity_files: Private keys to try first; the agent's and `~/.ssh/id_*` come after.
        known_hosts: Files with known keys; a new key is added to the first.
        accept_new: An unknown key is remembered; a changed one is refused in any case.
        jumps: Servers to go through, the first one first.
    """

    address: str
    port: int
    user: str
    identity_files: tuple[Path, ...]
    known_hosts: tuple[Path, ...]
    accept_new: bool = False
    password: Secret | None = None
    connect_timeout_seconds: float | None = None
    jumps: tuple[Endpoint, ...] = ()


def read_ssh_config(home: Path) -> SSHConfig:
    """The user's `~/.ssh/config`, empty when there is none.

    Raises:
        InventoryError: It cannot be read.
    """
    path = home / ".ssh" / "config"
    config = SSHConfig()
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            config.parse(file)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ConfigParseError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InventoryError(f"cannot be read: {reason}", path=str(path)) from error
    return config


def host_name(alias: str, config: SSHConfig, home: Path) -> str:
    """The name or address that SSH connects to for what the inventory calls a host.

    Raises:
        InventoryError: A setting of `~/.ssh/config` is wrong.
    """
    return str(_look_up(config, alias, home)["hostname"])


def resolve_endpoint(host: Host, config: SSHConfig, home: Path) -> Endpoint:
    """Where and how to connect for a host.

    Raises:
        InventoryError: A setting of `~/.ssh/config` is wrong, or ProxyJump is.
    """
    given = host.common_args
    found = _look_up(config, host.address, home)
    checking = given.host_key_checking or str(found.get("stricthostkeychecking", "yes")).lower()
    jump = given.proxy_jump or str(found.get("proxyjump", "none"))
    own_key = (host.private_key_file,) if host.private_key_file else ()
    base = _endpoint(found, home, given.user_known_hosts_files, own_key + given.identity_files)
    endpoint = Endpoint(
        address=base.address,
        port=host.port or given.port or base.port,
        user=host.user or given.user or base.user,
        identity_files=base.identity_files,
        known_hosts=base.known_hosts,
        accept_new=checking == "accept-new",
        password=host.password,
        connect_timeout_seconds=given.connect_timeout_seconds,
    )
    if jump.lower() == "none":
        return endpoint
    hops = (_jump(host.name, text.strip(), endpoint, config, home) for text in jump.split(","))
    return Endpoint(**{**vars(endpoint), "jumps": tuple(hops)})


def _look_up(config: SSHConfig, address: str, home: Path) -> Any:
    try:
        return config.lookup(address)
    except (SSHException, ValueError) as error:
        path = str(home / ".ssh" / "config")
        raise InventoryError(f"cannot be applied to {address}: {error}", path=path) from error


def _endpoint(
    found: Any, home: Path, known_hosts: tuple[Path, ...], keys: tuple[Path, ...]
) -> Endpoint:
    """What `~/.ssh/config` says of one server, with what takes precedence over it."""
    files = tuple(Path(name).expanduser() for name in found.get("identityfile", ()))
    user_known_hosts = (
        known_hosts
        or tuple(
            Path(name).expanduser() for name in shlex.split(found.get("userknownhostsfile", ""))
        )
        or (home / ".ssh" / "known_hosts", home / ".ssh" / "known_hosts2")
    )
    address = str(found["hostname"])
    try:
        port = read_port(found.get("port", 22))
    except ValueError as error:
        raise InventoryError(
            f"Port of {address}: {error}", path=str(home / ".ssh" / "config")
        ) from error
    return Endpoint(
        address=address,
        port=port,
        user=str(found.get("user") or getpass.getuser()),
        identity_files=keys + tuple(file for file in files if file.exists()),
        known_hosts=user_known_hosts + SYSTEM_KNOWN_HOSTS,
    )


def _jump(name: str, text: str, target: Endpoint, config: SSHConfig, home: Path) -> Endpoint:
    """A jump host; it is given the target's keys and known hosts too, but not its password."""
    match = _JUMP.fullmatch(text)
    if not match:
        raise InventoryError(
            f"host {name}: ProxyJump {text!r} is not [user@]address[:port]",
            path=str(home / ".ssh" / "config"),
            hint="or it is set in ansible_ssh_common_args of the inventory",
        )
    user, address, port = match.groups()
    base = _endpoint(
        _look_up(config, address.strip("[]"), home),
        home,
        target.known_hosts[: -len(SYSTEM_KNOWN_HOSTS)],
        target.identity_files,
    )
    return Endpoint(
        address=base.address,
        port=int(port) if port else base.port,
        user=user or base.user,
        identity_files=base.identity_files,
        known_hosts=base.known_hosts,
        accept_new=target.accept_new,
    )
