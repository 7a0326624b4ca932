"""`sappers-deploy image seed`: what makes an appliance a member of a cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sappers.cli.session import Cluster, open_cluster
from sappers.cli.status_view import plain
from sappers.config import ControlHome, control_home
from sappers.errors import ConfigError, SappersError
from sappers.model.member import MemberState, Ports
from sappers.provisioner.control.record import last_cluster_name, load_record


def seed(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What the new member is to be called.")
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write; a disk image.")],
    *,
    cluster: Annotated[
        str | None,
        typer.Option("--for", "--cluster", help="Which cluster; the last bootstrapped if not."),
    ] = None,
    address: Annotated[
        str, typer.Option("--address", help="Fixed address, 10.0.0.20/24; DHCP if not given.")
    ] = "",
    gateway: Annotated[str, typer.Option("--gateway", help="Router, with --address.")] = "",
    dns: Annotated[
        list[str] | None, typer.Option("--dns", help="Name server, with --address; repeatable.")
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            "--peer", metavar="ADDRESS:PORT", help="Member to meet first; all known if not given."
        ),
    ] = None,
    ssh_key: Annotated[
        list[Path] | None,
        typer.Option("--ssh-key", help="Public key that may log in as root; repeatable."),
    ] = None,
    zone: Annotated[str, typer.Option("--zone", help="Failure domain.")] = "",
    voter: Annotated[bool, typer.Option("--voter", help="Tag it as a voter.")] = False,
) -> None:
    """Write a disk that makes ONE appliance a member. It holds secrets; the machine erases it."""
    # Imported late: it brings the provisioner along.
    from sappers.assembly.appliance import write_seed
    from sappers.provisioner.bootstrap.seed import SeedNetwork, SeedOrder, read_authorized_keys

    home = control_home(os.environ)
    chosen = cluster or last_cluster_name(home)
    if not address and (gateway or dns):
        raise ConfigError("--gateway and --dns go with --address; DHCP brings its own")
    found, taken = _members(home, chosen)
    order = SeedOrder(
        name=name,
        peers=tuple(peer or found),
        taken=taken,
        network=SeedNetwork(address, gateway, tuple(dns or ())) if address else None,
        zone=zone,
        voter=voter,
        authorized_keys=read_authorized_keys(_lines(ssh_key or [])),
    )
    node_id = write_seed(home, chosen, order, out)
    Console(stderr=True).print(
        plain(f"{out} makes one appliance {node_id}, a member of {chosen}; it holds secrets"),
        soft_wrap=True,
    )
    typer.echo(node_id)


def _members(home: ControlHome, cluster: Cluster) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Gossip addresses and names of the members: as the cluster says, else as remembered here."""
    assert cluster is not None
    record = load_record(home.cluster(cluster))
    try:
        with open_cluster(cluster, None) as client:
            members = [one.member for one in client.view().members]
    except SappersError:
        port = Ports().gossip
        return (
            tuple(_endpoint(one.address, port) for one in record.members),
            tuple(one.name for one in record.members),
        )
    alive = [one for one in members if one.state is MemberState.ALIVE]
    return (
        tuple(_endpoint(one.address, one.ports.gossip) for one in alive),
        (*(one.name for one in members), *(one.name for one in record.members)),
    )


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _lines(files: list[Path]) -> list[str]:
    try:
        return [line for path in files for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--ssh-key: {error}") from error
