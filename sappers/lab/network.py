"""The lab's bridge: hosts and this machine reach each other over it, and nothing beyond.

Invariant: the only traces in this machine's network are one bridge, marked as this lab's, with one
address in the lab's subnet. Forwarding, firewall and routes of the machine stay as they are.
"""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Network
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from sappers.errors import LabError
from sappers.lab.plan import LabPlan

# A route as wide as a company's whole network does not count as using the lab's subnet.
_ROUTE_PREFIX_MIN = 16


def ensure_bridge(plan: LabPlan, owner: str) -> None:
    """Make the lab's bridge, marked with `owner`; nothing to do when it is there.

    Raises:
        LabError: The bridge is another's, or something else uses the subnet.
    """
    with IPRoute() as netlink:
        index = _own_bridge(netlink, plan, owner)
        if index is None:
            _check_subnet_free(netlink, plan)
            netlink.link(
                "add",
                ifname=plan.bridge,
                kind="bridge",
                address=plan.bridge_mac,
                br_forward_delay=0,
            )
            index = netlink.link_lookup(ifname=plan.bridge)[0]
            netlink.link("set", index=index, IFLA_IFALIAS=owner)
        if not netlink.get_addr(index=index, address=plan.control_address):
            netlink.addr(
                "add",
                index=index,
                address=plan.control_address,
                prefixlen=plan.network.prefixlen,
                broadcast=str(plan.network.broadcast_address),
            )
        netlink.link("set", index=index, state="up")


def remove_bridge(plan: LabPlan, owner: str) -> None:
    """Remove the lab's bridge; nothing to do when there is none or it is another's."""
    with IPRoute() as netlink:
        links = netlink.get_links(ifname=plan.bridge) if _exists(netlink, plan.bridge) else []
        for link in links:
            if _marked(link) == owner:
                netlink.link("del", index=link["index"])


def remove_link(name: str) -> None:
    """Remove a host's network device, and its end inside with it; nothing to do without one."""
    with IPRoute() as netlink:
        for index in netlink.link_lookup(ifname=name):
            with suppress(NetlinkError):  # it went with its host meanwhile
                netlink.link("del", index=index)


def link_exists(name: str) -> bool:
    """Whether this machine has a network device of that name."""
    with IPRoute() as netlink:
        return _exists(netlink, name)


def _exists(netlink: Any, name: str) -> bool:
    return bool(netlink.link_lookup(ifname=name))


def _marked(link: Any) -> str:
    return link.get_attr("IFLA_IFALIAS") or ""


def _own_bridge(netlink: Any, plan: LabPlan, owner: str) -> int | None:
    if not _exists(netlink, plan.bridge):
        return None
    (link,) = netlink.get_links(ifname=plan.bridge)
    if _marked(link) == owner:
        return int(link["index"])
    raise LabError(
        f"network device {plan.bridge} is not this lab's: {_marked(link) or 'somebody made it'}",
        hint="give this lab another --name, or take the other one down",
    )


def _check_subnet_free(netlink: Any, plan: LabPlan) -> None:
    hint = "give this lab another --name: its subnet comes from its name"
    for address in netlink.get_addr(family=2):
        used = _network(address.get_attr("IFA_ADDRESS"), address["prefixlen"])
        if used.overlaps(plan.network):
            label = address.get_attr("IFA_LABEL")
            raise LabError(f"subnet {plan.subnet} is in use by {label} ({used})", hint=hint)
    for route in netlink.get_routes(family=2, table=254):
        if not route["dst_len"]:
            continue  # the default route
        used = _network(route.get_attr("RTA_DST"), route["dst_len"])
        if used.prefixlen >= _ROUTE_PREFIX_MIN and used.overlaps(plan.network):
            raise LabError(f"subnet {plan.subnet} is in use by the route to {used}", hint=hint)


def _network(address: str, prefix: int) -> IPv4Network:
    return IPv4Network(f"{address}/{prefix}", strict=False)
