"""The flags that an agent is started with, and the settings that they make. Pure.

A flag goes before what `agent.toml` says. Where there is no such file, flags and defaults are all
there is, chosen so that several agents of one machine need no flag for each port.
"""

from __future__ import annotations

import ipaddress
import re

import msgspec

from sappers.agent.address import AUTO
from sappers.config import AgentSettings, ConsulSettings
from sappers.errors import ConfigError
from sappers.model.image import ImageKey
from sappers.model.member import GATEWAY_PORT, Ports

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 — what others bind to when they name no address
_ROUTES_ABOVE_HUB = Ports().hub_routes - Ports().hub
_PORT_MAX = 65_535


class StartFlags(msgspec.Struct, frozen=True, kw_only=True):
    """As given on the command line; None where a flag is not.

    Attributes:
        raft_addr, http_addr: `:PORT` or `ADDRESS:PORT`.
        peers: `HOST:PORT,HOST:PORT`.
    """

    node_id: str | None = None
    gossip_port: int | None = None
    raft_addr: str | None = None
    http_addr: str | None = None
    hub_port: int | None = None
    bootstrap: int | None = None
    peers: str | None = None
    zone: str | None = None
    log_level: str | None = None


def first_settings(
    flags: StartFlags,
    *,
    cluster: str,
    host_name: str,
    image_keys: tuple[ImageKey, ...],
    consul: ConsulSettings,
    has_gateway: bool,
) -> AgentSettings:
    """The settings of an agent that has no `agent.toml` yet.

    Args:
        flags: As given.
        cluster: Its name.
        host_name: Names the member that was given no id.
        image_keys: Whose images the cluster runs from its beginning.
        consul: Of this host.
        has_gateway: Whether this host can run one.

    Raises:
        ConfigError: A flag makes no sense.
    """
    base = AgentSettings(
        cluster=cluster,
        node_name=flags.node_id or _as_name(host_name),
        address=AUTO,
        bind_address=_EVERYWHERE[0],
        ports=_without_flags(flags, GATEWAY_PORT if has_gateway and consul.enabled else 0),
        image_keys=image_keys,
        consul=consul,
    )
    return with_flags(base, flags)


def with_flags(settings: AgentSettings, flags: StartFlags) -> AgentSettings:
    """The settings with what the flags change.

    Raises:
        ConfigError: A flag makes no sense.
    """
    raft_host, raft = _split(flags.raft_addr, "--raft-addr", settings.ports.raft)
    http_host, http = _split(flags.http_addr, "--http-addr", settings.ports.http)
    changes: dict[str, object] = {
        "ports": msgspec.structs.replace(
            settings.ports,
            gossip=_or(flags.gossip_port, settings.ports.gossip),
            raft=raft,
            http=http,
            hub=_or(flags.hub_port, settings.ports.hub),
            hub_routes=settings.ports.hub_routes
            if flags.hub_port is None
            else flags.hub_port + _ROUTES_ABOVE_HUB,
        ),
        **_addresses({raft_host, http_host} - {""}),
    }
    if flags.bootstrap is not None:
        changes["bootstrap"] = flags.bootstrap
    if flags.peers is not None:
        changes["peers"] = _peers(flags.peers)
    if flags.zone is not None:
        changes["zone"] = flags.zone
    if flags.log_level is not None:
        changes["log_level"] = flags.log_level.upper()
    try:
        merged = msgspec.to_builtins(settings) | msgspec.to_builtins(changes)
        made = msgspec.convert(merged, AgentSettings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error)) from error
    _refuse_shared(made.ports)
    return made


def _addresses(named: set[str]) -> dict[str, object]:
    """What the addresses in `--raft-addr` and `--http-addr` mean: one for all listeners."""
    if not named:
        return {}
    if len(named) > 1:
        raise ConfigError(
            f"--raft-addr and --http-addr name two addresses: {' and '.join(sorted(named))}",
            hint="a member has one address; name it once",
        )
    address = named.pop()
    if address in _EVERYWHERE:
        return {"address": AUTO, "bind_address": address}
    return {"address": address, "bind_address": ""}


def _split(given: str | None, flag: str, default: int) -> tuple[str, int]:
    """Address (or empty) and port in `:12000`, `10.0.0.1:12000` or `[::1]:12000`."""
    if given is None:
        return "", default
    host, colon, port = given.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isdecimal() or not 0 < int(port) <= _PORT_MAX:
        raise ConfigError(f"{flag} {given}: expected `:PORT` or `ADDRESS:PORT`")
    try:
        return (str(ipaddress.ip_address(host)) if host else ""), int(port)
    except ValueError as error:
        raise ConfigError(f"{flag} {given}: {host!r} is no IP address") from error


def _peers(given: str) -> tuple[str, ...]:
    peers = tuple(peer.strip() for peer in given.split(",") if peer.strip())
    for peer in peers:
        host, _, port = peer.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) <= _PORT_MAX:
            raise ConfigError(f"--peers {peer}: expected HOST:PORT, such as 10.0.0.11:7946")
    return peers


def _without_flags(flags: StartFlags, gateway: int) -> Ports:
    """Ports that have no flag in the usual commands: moved as far as the API's, if possible."""
    usual = Ports()
    ports = Ports(
        gossip=_or(flags.gossip_port, usual.gossip),
        raft=_split(flags.raft_addr, "--raft-addr", usual.raft)[1],
        http=_split(flags.http_addr, "--http-addr", usual.http)[1],
        gateway=gateway,
    )
    by = ports.http - usual.http
    moved = msgspec.structs.replace(
        ports,
        hub=ports.hub + by,
        hub_routes=ports.hub_routes + by,
        gateway=ports.gateway + by if ports.gateway else 0,
    )
    taken = [port for port in msgspec.structs.astuple(moved) if port]
    possible = min(moved.hub, moved.hub_routes) > 0 and max(taken) <= _PORT_MAX
    return moved if possible and len(set(taken)) == len(taken) else ports


def _refuse_shared(ports: Ports) -> None:
    numbers = [number for number in msgspec.structs.astuple(ports) if number]
    if len(set(numbers)) < len(numbers) or not all(0 < one <= _PORT_MAX for one in numbers):
        named = ", ".join(f"{name} {port}" for name, port in msgspec.structs.asdict(ports).items())
        raise ConfigError(
            f"an agent's ports are from 1 to {_PORT_MAX} and differ: {named}",
            hint="--gossip-port, --raft-addr, --http-addr, --hub-port choose them",
        )


def _or(given: int | None, default: int) -> int:
    return default if given is None else given


def _as_name(host_name: str) -> str:
    return re.sub(r"[^a-z0-9.-]+", "-", host_name.lower()).strip("-.")[:56].strip("-.") or "node"
