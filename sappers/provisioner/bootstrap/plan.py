"""What a run wants: the cluster and its members, as the inventory says. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sappers.config import FORGET_MEMBER_HOURS, NAME_PATTERN
from sappers.errors import HostUnfit, InventoryError
from sappers.model.member import GATEWAY_PORT, Ports
from sappers.model.policy import (
    ElectorateSettings,
    EventSettings,
    FencingSettings,
    ImageSettings,
)
from sappers.provisioner.inventory.inventory import Host, Inventory

VOTERS_GROUP = "voters"
_FOUNDING_VOTERS_MAX = 3
# A node id is the name, a dash and six hex digits, and has 63 characters at most.
_NAME_MAX = 56
_TRUE = frozenset({"1", "true", "yes", "on", "y", "t"})

Resolve = Callable[[str], str]


class PlannedMember(msgspec.Struct, frozen=True):
    """A host as the member that it is to be.

    Attributes:
        address: IP address that other members reach it at.
        images: How much of its network images may take.
        events: How much of what happened it keeps.
        consul: A Consul agent of the cluster's own runs on it.
        gateway_port: Where it routes requests to services, which Consul names; 0 for nowhere.
        electorate, fencing, forget_member_hours: By which it decides while it leads.
        problems: What the inventory says of it that cannot be; it is not worked on then.
    """

    name: str
    address: str
    voter_tag: bool
    zone: str = ""
    images: ImageSettings = ImageSettings()
    events: EventSettings = EventSettings()
    consul: bool = False
    gateway_port: int = 0
    electorate: ElectorateSettings = ElectorateSettings()
    fencing: FencingSettings = FencingSettings()
    forget_member_hours: float = FORGET_MEMBER_HOURS
    problems: tuple[HostUnfit, ...] = ()


class ClusterPlan(msgspec.Struct, frozen=True):
    """The cluster that the inventory describes, whatever `--limit` says.

    Attributes:
        members: In inventory order.
        images: Names of the images that the cluster should have, or None for all.
    """

    name: str
    members: tuple[PlannedMember, ...]
    ports: Ports = Ports()
    images: tuple[str, ...] | None = None

    def member(self, name: str) -> PlannedMember:
        """The member of that name."""
        return next(member for member in self.members if member.name == name)

    @property
    def founding_voters(self) -> int:
        """How many agents found the cluster: odd, so that a half cannot stop it."""
        return _FOUNDING_VOTERS_MAX if len(self.members) >= _FOUNDING_VOTERS_MAX else 1

    def ports_of(self, name: str) -> Ports:
        """The ports of that member."""
        return msgspec.structs.replace(self.ports, gateway=self.member(name).gateway_port)

    def peers_of(self, name: str) -> tuple[str, ...]:
        """Gossip addresses of everyone else."""
        return tuple(
            f"[{member.address}]:{self.ports.gossip}"
            if ":" in member.address
            else f"{member.address}:{self.ports.gossip}"
            for member in self.members
            if member.name != name and member.address
        )

    @property
    def consul_addresses(self) -> tuple[str, ...]:
        """Addresses of all members that run Consul."""
        return tuple(one.address for one in self.members if one.consul and one.address)

    def founders(self) -> tuple[str, ...]:
        """Names in the order in which they may found the cluster: tagged voters first."""
        ranked = sorted(self.members, key=lambda member: not member.voter_tag)
        return tuple(member.name for member in ranked)


def plan_cluster(
    inventory: Inventory, resolve: Resolve, ssh_name: Callable[[str], str] = str
) -> ClusterPlan:
    """The cluster that an inventory describes.

    Args:
        inventory: What to read.
        resolve: A host name's IP address; raises OSError when it has none.
        ssh_name: What SSH connects to for an `ansible_host`, which may be an alias of SSH's.

    Raises:
        InventoryError: There is no host, or the cluster's name cannot be one.
    """
    path = str(inventory.path)
    if not inventory.hosts:
        raise InventoryError("there is no host in it", path=path, hint="add one host a line")
    names = {_text(host.variables, "sappers_cluster") for host in inventory.hosts} - {""}
    if len(names) > 1:
        raise InventoryError(
            f"sappers_cluster differs between hosts: {', '.join(sorted(names))}", path=path
        )
    name = names.pop() if names else _as_name(inventory.path)
    if not NAME_PATTERN.fullmatch(name):
        raise InventoryError(
            f"{name!r} cannot name a cluster: 1 to 63 lower-case letters, digits, `-`, `.`",
            path=path,
            hint="set sappers_cluster in [all:vars]",
        )
    members = _refuse_shared([_member(host, resolve, ssh_name) for host in inventory.hosts])
    return ClusterPlan(name=name, members=members, images=_images(inventory.hosts))


def _as_name(path: Path) -> str:
    return re.sub(r"[^a-z0-9.-]+", "-", path.stem.lower()).strip("-.")


def _member(host: Host, resolve: Resolve, ssh_name: Callable[[str], str]) -> PlannedMember:
    wanted = _text(host.variables, "sappers_address") or ssh_name(host.address)
    address, no_address = "", ""
    try:
        address = str(ipaddress.ip_address(resolve(wanted)))
    except (OSError, ValueError) as error:
        no_address = f"no IP address for {wanted}: {error}"
    return PlannedMember(
        name=host.name,
        address=address,
        voter_tag=VOTERS_GROUP in host.groups
        or _text(host.variables, "sappers_voter").lower() in _TRUE,
        zone=_text(host.variables, "sappers_zone") or _text(host.variables, "zone"),
        images=host.images,
        events=host.events,
        consul=host.consul,
        gateway_port=_gateway_port(host),
        electorate=host.electorate,
        forget_member_hours=host.forget_member_hours,
        fencing=host.fencing,
        problems=tuple(_problems(host, no_address)),
    )


def _problems(host: Host, no_address: str) -> Iterator[HostUnfit]:
    """What keeps a host from being a member, by the inventory alone."""
    if len(host.name) > _NAME_MAX or not NAME_PATTERN.fullmatch(host.name):
        yield HostUnfit(
            host.name,
            f"a member's name has 1 to {_NAME_MAX} lower-case letters, digits, `-`, `.`",
            hint="rename it in the inventory and keep its address in ansible_host",
        )
    if no_address:
        yield HostUnfit(
            host.name, no_address, hint="set ansible_host or sappers_address to its address"
        )
    if host.is_local:
        yield HostUnfit(
            host.name,
            "ansible_connection=local: members are reached over SSH",
            hint="leave it out of the cluster's inventory",
        )
    if host.gateway_port and not host.consul:
        yield HostUnfit(
            host.name,
            "sappers_gateway_port is set, and consul is not: the gateway is routed from Consul",
            hint="set consul=true",
        )


def _gateway_port(host: Host) -> int:
    if not host.consul:
        return 0
    return GATEWAY_PORT if host.gateway_port is None else host.gateway_port


def _refuse_shared(members: Sequence[PlannedMember]) -> tuple[PlannedMember, ...]:
    """Mark every member whose address another one has."""
    owners: dict[str, list[str]] = {}
    for member in members:
        owners.setdefault(member.address, []).append(member.name)
    marked: list[PlannedMember] = []
    for member in members:
        others = [name for name in owners[member.address] if name != member.name]
        if member.address and others:
            problem = HostUnfit(
                member.name,
                f"{', '.join(others)} has the same address, {member.address}",
                hint="one machine is one member; set ansible_host or sappers_address",
            )
            member = msgspec.structs.replace(member, problems=(*member.problems, problem))
        marked.append(member)
    return tuple(marked)


def _images(hosts: Sequence[Host]) -> tuple[str, ...] | None:
    for host in hosts:
        value = host.variables.get("sappers_images")
        if isinstance(value, str):
            return tuple(value.replace(",", " ").split())
        if isinstance(value, list | tuple):
            return tuple(str(name) for name in value)
    return None


def _text(variables: Mapping[str, Any], name: str) -> str:
    value = variables.get(name)
    return "" if value is None else str(value).strip()
