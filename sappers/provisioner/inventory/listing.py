"""An inventory as Ansible takes it of a program: of a file, or of a cluster as it is now."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sappers.model.allocation import AllocationStatus
from sappers.model.member import MemberState
from sappers.model.view import ClusterView, MemberView
from sappers.provisioner.inventory.host import Host
from sappers.provisioner.inventory.host_values import Secret
from sappers.provisioner.inventory.inventory import Inventory
from sappers.provisioner.source import Sealed

Listing = dict[str, Any]


def list_inventory(inventory: Inventory) -> Listing:
    """All groups, and each host's effective variables; passwords are left out."""
    groups: Listing = {}
    for name, group in inventory.groups.items():
        below = {host for child in group.children for host in inventory.groups[child].hosts}
        own = [host for host in group.hosts if host not in below]
        parts = {"hosts": own, "children": list(group.children)}
        # Of a group that is empty altogether Ansible would make a host with the group's name.
        groups[name] = {key: names for key, names in parts.items() if names} or {"hosts": []}
    return {**groups, **_meta({host.name: shown_variables(host) for host in inventory.hosts})}


def shown_variables(host: Host) -> dict[str, Any]:
    """A host's variables without those that are passwords; what is sealed, as Ansible takes it."""
    return {
        name: {"__ansible_vault": value.envelope} if isinstance(value, Sealed) else value
        for name, value in host.variables.items()
        if not isinstance(value, Secret)
    }


def list_cluster(view: ClusterView, hosts: Mapping[str, Host]) -> Listing:
    """The cluster's members in groups by what they are now.

    Args:
        hosts: What the inventory knows that the cluster was bootstrapped from, by name: how to
            log in. Where it says no address, the member's own is taken.
    """
    groups: dict[str, list[str]] = {}
    variables: dict[str, dict[str, Any]] = {}
    for one in _one_of_each_name(view.members):
        name = one.member.name
        for group in _groups_of(one, view):
            groups.setdefault(group, []).append(name)
        known = shown_variables(hosts[name]) if name in hosts else {}
        variables[name] = {"ansible_host": one.member.address, **known, **_told(one, view)}
    listed = {name: {"hosts": sorted(found)} for name, found in sorted(groups.items())}
    return {"all": {"children": sorted(groups)}, **listed, **_meta(variables)}


def _one_of_each_name(members: Iterable[MemberView]) -> list[MemberView]:
    """Of a host that was installed anew its member of before may be known still, as dead."""
    found: dict[str, MemberView] = {}
    for one in members:
        known = found.get(one.member.name)
        if one.member.state is not MemberState.LEFT and (
            known is None or known.member.state is not MemberState.ALIVE
        ):
            found[one.member.name] = one
    return list(found.values())


def _groups_of(one: MemberView, view: ClusterView) -> list[str]:
    member = one.member
    groups = ["sappers_members", f"sappers_{member.state.value}"]
    if member.id in view.electorate:
        groups.append("sappers_voters")
    if member.id == view.leader_id:
        groups.append("sappers_leader")
    if member.id in view.cordons:
        groups.append("sappers_cordoned")
    if member.zone:
        groups.append(f"sappers_zone_{_group_name(member.zone)}")
    return groups + [f"sappers_runs_{_group_name(name)}" for name in _workloads_on(one, view)]


def _workloads_on(one: MemberView, view: ClusterView) -> list[str]:
    return sorted(
        {
            allocation.workload
            for allocation in view.allocations
            if allocation.member_id == one.member.id
            and allocation.status is AllocationStatus.HEALTHY
        }
    )


def _told(one: MemberView, view: ClusterView) -> dict[str, Any]:
    member = one.member
    return {
        "sappers_cluster": view.cluster,
        "sappers_member_id": member.id,
        "sappers_address": member.address,
        "sappers_state": member.state.value,
        "sappers_role": one.role,
        "sappers_version": member.version,
        "sappers_guests": one.guests,
        "sappers_workloads": _workloads_on(one, view),
    }


def _group_name(name: str) -> str:
    """What Ansible takes as a group's name without a warning."""
    return re.sub(r"\W", "_", name)


def _meta(variables: Mapping[str, Any]) -> Listing:
    return {"_meta": {"hostvars": dict(variables)}}
