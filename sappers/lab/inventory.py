"""What a lab tells others about its hosts: inventory, known host keys, name tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sappers.lab.plan import HostSpec, LabPlan


def render_inventory(lab: str, hosts: Sequence[HostSpec], key: Path, known_hosts: Path) -> str:
    """An inventory as Ansible reads it, with every host a voter."""
    rows = "\n".join(f"{host.name} ansible_host={host.address}" for host in hosts)
    return (
        f"[voters]\n{rows}\n\n[all:vars]\nsappers_cluster={lab}\nansible_user=root\n"
        f"ansible_ssh_private_key_file={key}\n"
        f"ansible_ssh_common_args='-o UserKnownHostsFile={known_hosts}'\n"
    )


def render_known_hosts(hosts: Sequence[HostSpec], keys: Mapping[str, str]) -> str:
    """OpenSSH's `known_hosts`: each host's key by name and address."""
    return "".join(f"{host.name},{host.address} {keys[host.name]}\n" for host in hosts)


def render_name_table(plan: LabPlan, hosts: Sequence[HostSpec]) -> str:
    """`/etc/hosts` of every host: all of them and the control machine."""
    rows = [("127.0.0.1", "localhost"), (plan.control_address, "control")]
    rows += [(host.address, host.name) for host in hosts]
    return "".join(f"{address}\t{name}\n" for address, name in rows)
