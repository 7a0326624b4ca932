"""What the Consul agents of a cluster share: made once on the control machine, never replaced.

Invariant: as for the cluster's own secrets, a replaced key would lock out every agent.
"""

from __future__ import annotations

import base64
import secrets
import uuid
from pathlib import Path

import msgspec

from sappers.durable import write_durably
from sappers.provisioner.control.kept_json import read_kept

_FILE = "consul-secrets.json"
_GOSSIP_KEY_BYTES = 32


class ConsulSecrets(msgspec.Struct, frozen=True):
    """A cluster's Consul secrets.

    Attributes:
        gossip_key: Base64 of 32 random bytes.
        token: The ACL token that may do everything, a UUID; members show it, nobody else has it.
    """

    gossip_key: str
    token: str

    def __repr__(self) -> str:
        return "ConsulSecrets(…)"


def load_consul_secrets(folder: Path) -> ConsulSecrets | None:
    """The cluster's Consul secrets, or None while there are none.

    Raises:
        ConfigError: The file is damaged.
    """
    return read_kept(
        folder / _FILE,
        ConsulSecrets,
        hint="restore it: a host's /var/lib/sappers/consul/agent.json has both values",
    )


def ensure_consul_secrets(folder: Path) -> ConsulSecrets:
    """The cluster's Consul secrets, made if there are none. Under the run's lock.

    Raises:
        ConfigError: The file is damaged.
    """
    found = load_consul_secrets(folder)
    if found is None:
        key = base64.b64encode(secrets.token_bytes(_GOSSIP_KEY_BYTES)).decode()
        found = ConsulSecrets(gossip_key=key, token=str(uuid.uuid4()))
        write_durably(folder / _FILE, msgspec.json.encode(found) + b"\n")
    return found
