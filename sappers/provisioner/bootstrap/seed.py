"""What an appliance is told once, to become a member: its identity and where the cluster is.

A seed carries a private key, unlike bootstrap, whose hosts make their own: an appliance that boots
alone has no way to ask for a signature. Therefore a seed is for one machine, and is erased there.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Sequence

import msgspec

from sappers.config import NAME_PATTERN, AgentSettings
from sappers.errors import ConfigError
from sappers.provisioner.bootstrap.units import render_settings
from sappers.provisioner.control.identity import ControlIdentity
from sappers.security.authority import create_request, sign_request

# An agent told this takes the address that leads to its peers; `agent.address` knows the word.
ADDRESS_BY_DHCP = "auto"
_NAME_MAX = 56  # a node id is the name, a dash and six hex digits, 63 characters at most
_PEER = re.compile(r"[^\s/]+:[0-9]{1,5}")
_NETWORK = "[Match]\nType=ether\nKind=!*\n\n[Network]\nAddress={address}\n"


class SeedNetwork(msgspec.Struct, frozen=True):
    """A fixed address.

    Attributes:
        address: With its prefix, `10.0.0.20/24`.
        gateway: Or empty.
        dns: Name servers.
    """

    address: str
    gateway: str = ""
    dns: tuple[str, ...] = ()


class SeedOrder(msgspec.Struct, frozen=True):
    """Which member the machine is to be.

    Attributes:
        name: What people will call it.
        peers: `address:port` of gossip of members that it meets first.
        taken: Names of the members that there are.
        network: None: DHCP.
        zone: Failure domain, or empty.
        voter: Whether it is tagged as a voter.
        authorized_keys: Public SSH keys that may log in as root, one a line.
    """

    name: str
    peers: tuple[str, ...]
    taken: tuple[str, ...] = ()
    network: SeedNetwork | None = None
    zone: str = ""
    voter: bool = False
    authorized_keys: str = ""


def make_seed(cluster: str, identity: ControlIdentity, order: SeedOrder) -> dict[str, bytes]:
    """The seed's files by their path; the machine's own installer knows where each goes.

    Raises:
        ConfigError: The name cannot be a member's or is one's, an address is none, or there is
            nobody to meet.
    """
    _check(cluster, order)
    node_id = f"{order.name}-{secrets.token_hex(3)}"
    address = _address(order.network) if order.network else ADDRESS_BY_DHCP
    settings = AgentSettings(
        cluster=cluster,
        node_name=order.name,
        address=address,
        peers=order.peers,
        voter_tag=order.voter,
        zone=order.zone,
    )
    key, request = create_request(node_id)
    certificate = sign_request(
        identity.authority, request, node_id=node_id, role="agent",
        addresses=(address,) if order.network else (),
    )  # fmt: skip
    files = {
        "node-id": _line(node_id),
        "pki/ca.pem": identity.authority.cert_pem,
        "pki/cert.pem": certificate,
        "pki/key.pem": key,
        "gossip.key": _line(identity.gossip_key),
        "hub.seed": _line(identity.hub.account_seed),
        "hub/operator.jwt": _line(identity.hub.operator_jwt),
        "hub/account.jwt": _line(identity.hub.account_jwt),
        "agent.toml": render_settings(settings),
        "hostname": _line(order.name),
    }
    if order.network is not None:
        files["network"] = _render_network(order.network)
    if order.authorized_keys:
        files["authorized_keys"] = _line(order.authorized_keys)
    return files


def _check(cluster: str, order: SeedOrder) -> None:
    if len(order.name) > _NAME_MAX or not NAME_PATTERN.fullmatch(order.name):
        raise ConfigError(
            f"{order.name!r} cannot name a member: 1 to {_NAME_MAX} lower-case letters, digits, "
            "`-`, `.`"
        )
    if order.name in order.taken:
        raise ConfigError(
            f"cluster {cluster} has a member {order.name} already", hint="give it another name"
        )
    if not order.peers:
        raise ConfigError(
            f"no member of {cluster} is known that it could meet",
            hint="run sappers-deploy bootstrap INVENTORY, or name one with --peer ADDRESS:PORT",
        )
    for peer in order.peers:
        if not _PEER.fullmatch(peer) or not 0 < int(peer.rpartition(":")[2]) < 1 << 16:
            raise ConfigError(f"{peer!r} is no ADDRESS:PORT of a member's gossip")


def _address(network: SeedNetwork) -> str:
    for text in filter(None, (network.gateway, *network.dns)):
        try:
            ipaddress.ip_address(text)
        except ValueError as error:
            raise ConfigError(f"{text!r} is no IP address") from error
    try:
        found = ipaddress.ip_interface(network.address)
    except ValueError as error:
        raise ConfigError(f"{network.address!r} is no IP address with its prefix") from error
    if "/" not in network.address:
        raise ConfigError(
            f"{network.address} lacks the length of its network's prefix",
            hint=f"write {network.address}/24, say",
        )
    gateway = ipaddress.ip_address(network.gateway) if network.gateway else None
    if gateway is not None and not gateway.is_link_local and gateway not in found.network:
        raise ConfigError(
            f"the gateway {network.gateway} is not in the network of {network.address}",
            hint="name a router that the machine reaches without one",
        )
    return str(found.ip)


def _render_network(network: SeedNetwork) -> bytes:
    text = _NETWORK.format(address=network.address)
    if network.gateway:
        text += f"Gateway={network.gateway}\n"
    text += "".join(f"DNS={server}\n" for server in network.dns)
    return text.encode()


def read_authorized_keys(lines: Sequence[str]) -> str:
    """Public keys of files' lines.

    Raises:
        ConfigError: One is no public key; a private key must not get into a seed.
    """
    kept = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    for line in kept:
        if not line.startswith(("ssh-", "ecdsa-", "sk-")) or len(line.split()) < 2:
            raise ConfigError(
                "--ssh-key: a line of it is no public key", hint="name the file that ends in .pub"
            )
    return "\n".join(kept)


def _line(text: str) -> bytes:
    return f"{text.strip()}\n".encode()
