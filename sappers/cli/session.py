"""Which cluster a command works on, and a client for it.

What asks members is imported when they are asked: commands that ask none do without.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from sappers.config import control_home
from sappers.errors import ConfigError, HostUnreachable
from sappers.model.limits import WorkloadName
from sappers.model.member import Ports
from sappers.provisioner.control.record import (
    OPERATOR_CERTIFICATE_FILE,
    OPERATOR_KEY_FILE,
    ClusterRecord,
    last_cluster_name,
    load_record,
)

if TYPE_CHECKING:
    from sappers.api.operator_client import OperatorClient
    from sappers.api.ways import Endpoint, OpenForward


Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="NAME|DIR",
        help="Which cluster, or the folder with its keys; the last bootstrapped one if not given.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--addr",
        metavar="HOST[:PORT]",
        help="Ask this member and no other, with the keys of --cluster.",
    ),
]


def finite(seconds: float) -> float:
    """As they are.

    Raises:
        typer.BadParameter: No clock gets there: `inf`, or `nan`, which is in no order with others.
    """
    if not math.isfinite(seconds):
        raise typer.BadParameter(f"{seconds} is no number of seconds")
    return seconds


WaitSeconds = Annotated[
    float, typer.Option("--timeout", min=0, callback=finite, help="Seconds to wait.")
]


@contextmanager
def open_cluster(cluster: str | None, address: str | None) -> Iterator[OperatorClient]:
    """A client of the cluster that the options name.

    Raises:
        ConfigError: No such cluster is known here, or the address is none.
        IdentityError: The operator's certificate is missing or damaged.
    """
    from sappers.api.operator_client import OperatorClient
    from sappers.security.identity import load_identity

    folder = cluster_folder(cluster)
    identity = load_identity(folder, cert=OPERATOR_CERTIFICATE_FILE, key=OPERATOR_KEY_FILE)
    if address is not None:
        endpoints, forward = [endpoint_at(address)], None
    else:
        record = load_record(folder)
        endpoints, forward = endpoints_of(record), ssh_forward(record)
    alone = address is not None
    with OperatorClient(identity, endpoints, open_forward=forward, alone=alone) as client:
        yield client


def cluster_folder(cluster: str | None) -> Path:
    """Where the keys of a cluster are; of the one that was bootstrapped last if None.

    Raises:
        ConfigError: No such cluster is known here.
    """
    home = control_home(os.environ)
    name = cluster or last_cluster_name(home)
    # A cluster that was made by hand has its keys where its founder was started.
    folder = Path(name) if "/" in name else home.cluster(name)
    if folder.is_dir():
        return folder
    if "/" in name:
        raise ConfigError(
            f"{name} is no folder",
            hint="name the folder with the cluster's keys: ca.pem, operator.pem and others",
        )
    raise ConfigError(
        f"this machine knows no cluster {name}",
        hint=f"for the keys in that folder, say --cluster ./{name}"
        if Path(name).is_dir()
        else f"clusters bootstrapped from here are in {folder.parent}",
    )


def checked_name(name: str, what: str = "workload") -> str:
    """The name of a workload, or of what else is named so, if it can be one.

    Raises:
        ConfigError: It cannot.
    """
    try:
        return msgspec.convert(name, WorkloadName)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{name!r} cannot be a {what}'s name: 1 to 40 lower-case letters, digits and `-`"
        ) from error


def endpoints_of(record: ClusterRecord) -> list[Endpoint]:
    """Where the cluster's members were when it was bootstrapped."""
    from sappers.api.ways import Endpoint

    return [
        Endpoint(member.name, member.address, member.http_port, member.node_id)
        for member in record.members
    ]


def endpoint_at(address: str) -> Endpoint:
    """The member at `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`.

    Raises:
        ConfigError: It is none of these.
    """
    from sappers.api.ways import Endpoint

    host, separator, port = address, "", ""
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        separator, port = rest[:1], rest[1:]
    elif address.count(":") == 1:
        host, separator, port = address.partition(":")
    number = port if separator == ":" else str(Ports().http) if not separator else ""
    if not host or not number.isdecimal() or not 0 < int(number) < 65_536:
        raise ConfigError(f"--addr {address}: expected HOST or HOST:PORT, such as 10.0.0.5:11000")
    return Endpoint(host, host, int(number))


def ssh_forward(record: ClusterRecord) -> OpenForward | None:
    """Another way to a member whose API port is closed to this machine: SSH to its host."""
    if not record.inventory:
        return None

    @contextmanager
    def forward(endpoint: Endpoint) -> Iterator[tuple[str, int]]:
        # Imported late: SSH takes a moment to load, and most calls do without.
        from sappers.provisioner.connection.ssh import Connection
        from sappers.provisioner.inventory.inventory import load_inventory

        hosts = {host.name: host for host in load_inventory(Path(record.inventory)).hosts}
        if endpoint.name not in hosts:
            raise HostUnreachable(endpoint.name, f"{record.inventory} does not name it any more")
        with (
            Connection.open(hosts[endpoint.name]) as connection,
            connection.open_forward((endpoint.address, endpoint.port)) as local,
        ):
            yield local

    return forward
