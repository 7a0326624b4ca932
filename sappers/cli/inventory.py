"""`sappers-deploy inventory`: hosts for Ansible, of the cluster as it is now or of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sappers.cli.session import Address, Cluster, cluster_folder, open_cluster
from sappers.errors import ConfigError

if TYPE_CHECKING:
    from sappers.provisioner.inventory.host import Host


def inventory(
    *,
    source: Annotated[
        str | None,
        typer.Option("--inventory", "-i", help="A file, `host1,host2,` or `-`; else the cluster."),
    ] = None,
    list_all: Annotated[
        bool, typer.Option("--list", help="All hosts and groups (also without this option).")
    ] = False,
    host: Annotated[
        str | None, typer.Option("--host", metavar="NAME", help="The variables of one host.")
    ] = None,
    cluster: Cluster = None,
    addr: Address = None,
) -> None:
    """Print hosts, groups and variables as a dynamic inventory of Ansible does, as JSON.

    Without `-i` they are the cluster's members, in groups by what they are now: sappers_members,
    sappers_voters, sappers_leader, sappers_alive, sappers_suspect, sappers_dead,
    sappers_cordoned, sappers_zone_…, sappers_runs_WORKLOAD. Passwords are left out.
    """
    if list_all and host is not None:
        raise ConfigError("--list and --host are given both", hint="give one of them")
    listing = _of_cluster(cluster, addr) if source is None else _of_source(source)
    typer.echo(json.dumps(listing if host is None else _of_host(listing, host), indent=2))


def _of_source(source: str) -> dict[str, Any]:
    # Imported late: templates and SSH take a moment to load, and other commands do without.
    from sappers.provisioner.inventory.inventory import load_inventory
    from sappers.provisioner.inventory.listing import list_inventory

    return list_inventory(load_inventory(source, _stays_closed))


def _of_cluster(cluster: str | None, address: str | None) -> dict[str, Any]:
    from sappers.provisioner.inventory.listing import list_cluster

    with open_cluster(cluster, address) as client:
        return list_cluster(client.view(), _known_hosts(cluster, address))


def _known_hosts(cluster: str | None, address: str | None) -> dict[str, Host]:
    """How the inventory says to log in that the cluster was bootstrapped from, if there is one."""
    from sappers.provisioner.control.record import load_record
    from sappers.provisioner.inventory.inventory import load_inventory

    if address is not None:
        return {}
    path = Path(load_record(cluster_folder(cluster)).inventory)
    if not path.is_file():
        return {}
    return {one.name: one for one in load_inventory(path, _stays_closed).hosts}


def _stays_closed(envelope: str) -> str:
    del envelope
    raise ValueError("what is in Vault is not listed")


def _of_host(listing: dict[str, Any], name: str) -> Any:
    variables = listing["_meta"]["hostvars"]
    if name not in variables:
        raise ConfigError(
            f"there is no host {name}", hint=f"hosts: {', '.join(variables) or 'none'}"
        )
    return variables[name]
