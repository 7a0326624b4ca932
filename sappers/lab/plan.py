"""What a lab consists of: names and addresses, worked out from its name alone.

Invariant: two labs of different names share no host name in the kernel, bridge, network device or
control group, so that a test's lab and a person's lab run side by side.
"""

from __future__ import annotations

import hashlib
import re
from ipaddress import IPv4Address, IPv4Network

import msgspec

from sappers.errors import LabError

DEFAULT_LAB = "lab"
HOSTS_DEFAULT = 3
HOSTS_MAX = 150
LAB_NAME_PATTERN = re.compile(r"[a-z][a-z0-9-]{0,19}")

_RANGE = IPv4Network("10.77.0.0/16")
_FIRST_HOST = 11
_INTERFACE_NAME_MAX = 15


class HostSpec(msgspec.Struct, frozen=True):
    """One lab host as it should be.

    Attributes:
        name: Host name inside and in inventories, `lab1`.
        machine: The container's name; unique on this machine, short enough for a device name.
        address: Its IPv4 address on the lab's bridge.
        machine_id: 32 hex digits; stays over restarts.
    """

    name: str
    machine: str
    address: str
    machine_id: str


class LabPlan(msgspec.Struct, frozen=True):
    """A lab's place on this machine."""

    name: str
    subnet: str
    bridge: str

    @property
    def network(self) -> IPv4Network:
        """The lab's own subnet."""
        return IPv4Network(self.subnet)

    @property
    def control_address(self) -> str:
        """This machine's address on the bridge."""
        return str(self.network[1])

    @property
    def bridge_mac(self) -> str:
        """A fixed hardware address, so that the bridge's does not change with its ports."""
        return ":".join(("02", *re.findall("..", _digest(self.name)[:10])))

    def command(self, verb: str) -> str:
        """What one types to do this with the lab."""
        name = "" if self.name == DEFAULT_LAB else f" --name {self.name}"
        return f"sappers-deploy lab {verb}{name}"

    def host(self, number: int, machine_id: str) -> HostSpec:
        """The lab's host with this number, counted from 1."""
        return HostSpec(
            name=f"{self.name}{number}",
            machine=_machine_name(self.name, number),
            address=str(self.network[_FIRST_HOST + number - 1]),
            machine_id=machine_id,
        )


def plan_lab(name: str) -> LabPlan:
    """Work out a lab's subnet and bridge; the same for the same name on every machine.

    Raises:
        LabError: The name cannot be a lab's.
    """
    if not LAB_NAME_PATTERN.fullmatch(name) or name.endswith("-"):
        raise LabError(
            f"lab name {name!r} is not usable",
            hint="use up to 20 lower-case letters, digits and `-`, with a letter first",
        )
    subnets = tuple(_RANGE.subnets(new_prefix=24))
    number = 0 if name == DEFAULT_LAB else 1 + int(_digest(name), 16) % (len(subnets) - 1)
    bridge = f"sap-{name}"
    if len(bridge) > _INTERFACE_NAME_MAX:
        bridge = f"sap-{_digest(name)[:11]}"
    return LabPlan(name=name, subnet=str(subnets[number]), bridge=bridge)


def link_name(machine: str) -> str:
    """This machine's end of a container's network cable, as nspawn names it."""
    return f"vb-{machine}"


def check_host_count(count: int) -> None:
    """Refuse a number of hosts that a lab cannot have.

    Raises:
        LabError: Fewer than one or more than the subnet holds.
    """
    if not 1 <= count <= HOSTS_MAX:
        raise LabError(f"a lab has 1 to {HOSTS_MAX} hosts, not {count}")


def check_address(plan: LabPlan, address: str) -> None:
    """Refuse an address that a host of the lab cannot have.

    Raises:
        LabError: No IPv4 address, outside the subnet, or the control machine's own.
    """
    try:
        fits = IPv4Address(address) in list(plan.network.hosts())[1:]
    except ValueError:
        fits = False
    if not fits:
        first, last = plan.network[2], plan.network[-2]
        raise LabError(
            f"{address!r} is no address for a host of lab `{plan.name}`",
            hint=f"use {first} to {last}",
        )


def _machine_name(lab: str, number: int) -> str:
    """At most 12 characters; `-` keeps lab `a1` host 1 apart from lab `a` host 11."""
    plain = f"{lab}-{number}"
    return (
        plain if len(plain) <= _INTERFACE_NAME_MAX - len("vb-") else f"{_digest(lab)[:8]}-{number}"
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
