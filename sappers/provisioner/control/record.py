"""What the control machine remembers of a cluster: who its members are and where they answer.

One file a cluster, `cluster.json`, beside the CA and the operator's certificate. Written whole,
beside and renamed, so a reader sees the old record or the new one.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from sappers.config import ControlHome
from sappers.durable import write_durably
from sappers.errors import ConfigError

RECORD_FILE = "cluster.json"
CA_FILE = "ca.pem"
OPERATOR_CERTIFICATE_FILE = "operator.pem"
OPERATOR_KEY_FILE = "operator.key"


class RecordedMember(msgspec.Struct, frozen=True):
    """Where a member's HTTP API was when the cluster was bootstrapped last.

    Attributes:
        name: The inventory's host name.
        node_id: The agent's own id, which its certificate carries.
        address: IP address or host name of the HTTP API.
    """

    name: str
    node_id: str
    address: str
    http_port: int = 11000


class ClusterRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A bootstrapped cluster.

    Attributes:
        name: The cluster's name, and the name of its folder.
        cluster_id: Empty while nobody has read it from a member yet.
        inventory: Absolute path of the inventory it came from, or empty.
    """

    name: str
    members: tuple[RecordedMember, ...]
    cluster_id: str = ""
    inventory: str = ""


def load_record(folder: Path) -> ClusterRecord:
    """Read the record in a cluster's folder.

    Raises:
        ConfigError: No cluster was bootstrapped here, or the file is damaged.
    """
    path = folder / RECORD_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=ClusterRecord)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file; this machine knows no cluster {folder.name}",
            hint="run sappers-deploy bootstrap INVENTORY first",
        ) from error
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"{path}: {error}", hint="run sappers-deploy bootstrap again; it writes the file anew"
        ) from error


def save_record(folder: Path, record: ClusterRecord) -> None:
    """Write the record whole (0600); the folder is made (0700) if it is missing."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
    write_durably(folder / RECORD_FILE, text)


def remember_last_cluster(home: ControlHome, name: str) -> None:
    """Make `name` the cluster that commands work on when none is named."""
    home.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(home.last_cluster, f"{name}\n".encode())


def last_cluster_name(home: ControlHome) -> str:
    """The cluster that was bootstrapped last.

    Raises:
        ConfigError: None was.
    """
    try:
        name = home.last_cluster.read_text().strip()
    except FileNotFoundError:
        name = ""
    if not name:
        raise ConfigError(
            "no cluster was bootstrapped from this machine",
            hint="run sappers-deploy bootstrap INVENTORY, or name one, or its keys, with --cluster",
        )
    return name
