"""Where SSH connects to for a host: its inventory variables over `~/.ssh/config` over defaults."""

from __future__ import annotations

import errno
import getpass
import glob
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from sappers.errors import InventoryError
from sappers.provisioner.inventory.host import Host
from sappers.provisioner.inventory.host_values import Secret
from sappers.provisioner.inventory.ssh_options import read_port

if TYPE_CHECKING:
    from paramiko import SSHConfig

SYSTEM_KNOWN_HOSTS = (Path("/etc/ssh/ssh_known_hosts"), Path("/etc/ssh/ssh_known_hosts2"))
_JUMP = re.compile(
    r"(?:ssh://)?(?:([^@]+)@)?(\[[^\]]+\]|[^:@\[\]]+|[0-9a-fA-F:]+:[0-9a-fA-F:]+)(?::([0-9]+))?/?"
)

_SETTING = re.compile(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*)")
_INCLUDES_MAX = 16  # OpenSSH's
_JUMPS_MAX = 8


class Endpoint(msgspec.Struct, frozen=True):
    """One SSH server and how to log in there.

    Attributes:
        name: What the inventory or the user calls it, which `~/.ssh/config` may know more of.
        identity_files: Private keys to try first; the agent's and `~/.ssh/id_*` come after.
        known_hosts: Files with known keys; a new key is added to the first.
        key_name: What known_hosts calls it, where that is another name (HostKeyAlias).
        proxy_command: What to run, in a shell, for bytes to and from the server.
        accept_new: An unknown key is remembered; a changed one is refused in any case.
        jumps: Servers to go through, the first one first.
    """

    name: str
    address: str
    port: int
    user: str
    identity_files: tuple[Path, ...]
    known_hosts: tuple[Path, ...]
    accept_new: bool = False
    password: Secret | None = None
    connect_timeout_seconds: float | None = None
    key_name: str | None = None
    proxy_command: str | None = None
    jumps: tuple[Endpoint, ...] = ()


def read_ssh_config(home: Path) -> SSHConfig | None:
    """The user's `~/.ssh/config` and the files that it includes; None when there is none.

    Raises:
        InventoryError: One cannot be read.
    """
    folder = home / ".ssh"
    path = folder / "config"
    try:
        lines = list(_lines(path, folder))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InventoryError(f"cannot be read: {error.strerror}", path=str(path)) from error
    from paramiko import SSHConfig  # slow to import, and dialling needs it for nothing else
    from paramiko.ssh_exception import ConfigParseError

    config = SSHConfig()
    # ProxyCommand stays as it is written: an inventory may say another port and user.
    tokens = config.TOKENS_BY_CONFIG_KEY
    config.TOKENS_BY_CONFIG_KEY = {key: tokens[key] for key in tokens if key != "proxycommand"}
    try:
        config.parse(lines)
    except ConfigParseError as error:
        raise InventoryError(f"cannot be read: {error}", path=str(path)) from error
    return config


def _lines(path: Path, folder: Path, depth: int = 0, section: str = "Host *") -> Iterator[str]:
    """A file's lines, those of what it includes in their place: the library does not know Include.

    Whose names are not absolute are in `folder`. What follows an included file belongs to the
    section that stood before it.
    """
    for line in path.read_text("utf-8", errors="replace").splitlines():
        setting = _SETTING.fullmatch(line)
        keyword = setting[1].lower() if setting else ""
        if keyword in ("host", "match"):
            section = line
        if setting is None or keyword != "include":
            yield line
            continue
        if depth == _INCLUDES_MAX:
            raise OSError(errno.ELOOP, f"{path} includes itself")
        for pattern in shlex.split(setting[2]):
            whole = str(folder / Path(pattern).expanduser())
            for included in sorted(glob.glob(whole)):  # noqa: PTH207 — it may be absolute
                yield from _lines(Path(included), folder, depth + 1, section)
                yield section


def host_name(alias: str, config: SSHConfig | None, home: Path) -> str:
    """The name or address that SSH connects to for what the inventory calls a host.

    Raises:
        InventoryError: A setting of `~/.ssh/config` is wrong.
    """
    return str(_look_up(config, alias, home)["hostname"])


def resolve_endpoint(host: Host, config: SSHConfig | None, home: Path) -> Endpoint:
    """Where and how to connect for a host.

    Raises:
        InventoryError: A setting of `~/.ssh/config` is wrong, or ProxyJump is.
    """
    given = host.common_args
    found = _look_up(config, host.address, home)
    checking = given.host_key_checking or str(found.get("stricthostkeychecking", "yes")).lower()
    own_key = (host.private_key_file,) if host.private_key_file else ()
    keys = own_key + given.identity_files
    base = _endpoint(host.address, found, home, given.user_known_hosts_files, keys)
    endpoint = replace(
        base,
        port=host.port or given.port or base.port,
        user=host.user or given.user or base.user,
        accept_new=checking == "accept-new",
        password=host.password,
        connect_timeout_seconds=given.connect_timeout_seconds,
    )
    # An argument counts more than what `~/.ssh/config` says, be it the one or the other.
    jump, command = given.proxy_jump, given.proxy_command
    if jump is None and command is None:
        jump, command = found.get("proxyjump"), found.get("proxycommand")
    if jump is not None and jump.lower() != "none":
        hops = _hops(host.name, jump, endpoint, config, home)
        return replace(endpoint, jumps=tuple(hops))
    return _by_command(endpoint, command)


def _hops(
    name: str, jump: str, target: Endpoint, config: SSHConfig | None, home: Path, depth: int = 0
) -> Iterator[Endpoint]:
    """The servers of a ProxyJump in order; how the first is reached `~/.ssh/config` says."""
    if depth == _JUMPS_MAX:
        raise InventoryError(
            f"host {name}: its ProxyJump leads back to itself", path=str(home / ".ssh" / "config")
        )
    for index, text in enumerate(jump.split(",")):
        hop, found = _jump(name, text.strip(), target, config, home)
        own = found.get("proxyjump")
        if index > 0:
            yield hop
        elif own is not None and own.lower() != "none":
            yield from _hops(name, own, target, config, home, depth + 1)
            yield hop
        else:
            yield _by_command(hop, found.get("proxycommand"))


def _by_command(endpoint: Endpoint, command: str | None) -> Endpoint:
    """Reached through a command, if there is one, its tokens filled in."""
    if command is None or command.lower() == "none":
        return endpoint
    values = {
        "h": endpoint.address,
        "n": endpoint.name,
        "p": str(endpoint.port),
        "r": endpoint.user,
        "%": "%",
    }
    said = re.sub(r"%([hnpr%])", lambda match: values[match[1]], command)
    return replace(endpoint, proxy_command=said)


def _look_up(config: SSHConfig | None, address: str, home: Path) -> Any:
    if config is None:
        return {"hostname": address}
    from paramiko.ssh_exception import SSHException

    try:
        return config.lookup(address)
    except (SSHException, ValueError) as error:
        path = str(home / ".ssh" / "config")
        raise InventoryError(f"cannot be applied to {address}: {error}", path=path) from error


def _endpoint(
    name: str, found: Any, home: Path, known_hosts: tuple[Path, ...], keys: tuple[Path, ...]
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
        name=name,
        address=address,
        port=port,
        user=str(found.get("user") or getpass.getuser()),
        identity_files=keys + tuple(file for file in files if file.exists()),
        known_hosts=user_known_hosts + SYSTEM_KNOWN_HOSTS,
        key_name=found.get("hostkeyalias"),
    )


def _jump(
    name: str, text: str, target: Endpoint, config: SSHConfig | None, home: Path
) -> tuple[Endpoint, Any]:
    """A jump host, and what `~/.ssh/config` says of it.

    It is given the target's keys and known hosts too, but not its password.
    """
    match = _JUMP.fullmatch(text)
    if not match:
        raise InventoryError(
            f"host {name}: ProxyJump {text!r} is not [user@]address[:port]",
            path=str(home / ".ssh" / "config"),
            hint="or it is set in ansible_ssh_common_args of the inventory",
        )
    user, address, port = match.groups()
    alias = address.strip("[]")
    found = _look_up(config, alias, home)
    known_hosts = target.known_hosts[: -len(SYSTEM_KNOWN_HOSTS)]
    base = _endpoint(alias, found, home, known_hosts, target.identity_files)
    return replace(
        base,
        port=int(port) if port else base.port,
        user=user or base.user,
        accept_new=target.accept_new,
    ), found
