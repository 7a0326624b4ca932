"""What stands on a host to run its Consul agent: two settings files and a unit. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from sappers.provisioner.bootstrap.units import CONSUL_FOLDER, templates
from sappers.provisioner.control.consul_secrets import ConsulSecrets
from sappers.provisioner.places import STATE_FOLDER

CONSUL_UNIT = "sappers-consul.service"
CONSUL_USER = "sappers-consul"
CONSUL_DATACENTER = "dc1"
# Consul asks servers for this name; no agent that is not one has it in its certificate.
SERVER_NAME = f"server.{CONSUL_DATACENTER}.consul"
DATA_FOLDER = f"{CONSUL_FOLDER}/data"
SETTINGS_PATH = f"{CONSUL_FOLDER}/agent.json"
JOIN_PATH = f"{CONSUL_FOLDER}/join.json"
CA_PATH = f"{CONSUL_FOLDER}/ca.pem"
CERTIFICATE_PATH = f"{CONSUL_FOLDER}/cert.pem"
KEY_PATH = f"{CONSUL_FOLDER}/key.pem"
# Whoever is on a host, or asks Consul's DNS, may read who is where, and change nothing.
ANONYMOUS_RULES = """\
node_prefix "" { policy = "read" }
service_prefix "" { policy = "read" }
agent_prefix "" { policy = "read" }
query_prefix "" { policy = "read" }
"""
_INITIAL_MANAGEMENT_SINCE = (1, 11)


def consul_settings(
    name: str,
    address: str,
    secrets: ConsulSecrets,
    *,
    servers: int | None,
    version: tuple[int, int],
) -> bytes:
    """`agent.json`.

    Args:
        name: The member's.
        address: Where other members reach it; the HTTP API, DNS and gRPC are on loopback alone.
        secrets: What all agents share.
        servers: How many servers there are to be, for one of them; None for a client.
        version: Consul's.
    """
    management = "initial_management" if version >= _INITIAL_MANAGEMENT_SINCE else "master"
    settings: dict[str, Any] = {
        "node_name": name,
        "datacenter": CONSUL_DATACENTER,
        "data_dir": DATA_FOLDER,
        "bind_addr": address,
        "client_addr": "127.0.0.1",
        "ports": {
            "http": 8500,
            "grpc": 8502,
            "dns": 8600,
            "server": 8300,
            "serf_lan": 8301,
            "serf_wan": -1,
        },
        "server": servers is not None,
        "encrypt": secrets.gossip_key,
        "ca_file": CA_PATH,
        "cert_file": CERTIFICATE_PATH,
        "key_file": KEY_PATH,
        "verify_incoming": True,
        "verify_outgoing": True,
        "verify_server_hostname": True,
        "acl": {
            "enabled": True,
            "default_policy": "deny",
            # Running guests stay known while the servers are away.
            "down_policy": "extend-cache",
            "tokens": {management: secrets.token, "agent": secrets.token},
        },
        "connect": {"enabled": True},
        "disable_update_check": True,
        "leave_on_terminate": False,
        "rejoin_after_leave": True,
        "log_level": "INFO",
    }
    if servers is not None:
        settings["bootstrap_expect"] = servers
        settings["performance"] = {"raft_multiplier": 2}
    return _json(settings)


def join_settings(addresses: Sequence[str]) -> bytes:
    """`join.json`: any member that lives leads to all others, so that who votes may change."""
    wrapped = [f"[{address}]" if ":" in address else address for address in addresses]
    return _json({"retry_join": wrapped, "retry_interval": "5s"})


def render_consul_unit(program: str) -> bytes:
    """`sappers-consul.service`."""
    template = templates.get_template("sappers-consul.service.j2")
    return template.render(
        program=program,
        user=CONSUL_USER,
        state_folder=STATE_FOLDER,
        folder=CONSUL_FOLDER,
        data_folder=DATA_FOLDER,
        settings=SETTINGS_PATH,
        join=JOIN_PATH,
    ).encode()


def consul_fingerprint(*parts: bytes) -> str:
    """What a running Consul was started with, as one digest; it restarts when this differs."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
