"""Seeds: one identity for one machine, with what it needs to meet the cluster."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from sappers.config import load_agent_settings
from sappers.errors import ConfigError
from sappers.provisioner.bootstrap.seed import (
    ADDRESS_BY_DHCP,
    SeedNetwork,
    SeedOrder,
    make_seed,
    read_authorized_keys,
)
from sappers.provisioner.control.identity import ControlIdentity, HubSecrets
from sappers.security.authority import create_authority, needs_renewal
from sappers.security.identity import load_identity

PEERS = ("10.0.0.1:7946", "10.0.0.2:7946")


@pytest.fixture(scope="module")
def identity() -> ControlIdentity:
    hub = HubSecrets("operator jwt", "account jwt", "SAexample")
    return ControlIdentity(create_authority("lab"), "Z29zc2lw\n", hub)


def written(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    return folder


def test_a_seed_is_a_whole_identity_that_the_authority_signed(
    identity: ControlIdentity, tmp_path: Path
) -> None:
    folder = written(make_seed("lab", identity, SeedOrder("edge1", PEERS)), tmp_path)

    found = load_identity(folder / "pki")

    assert re.fullmatch(r"edge1-[0-9a-f]{6}", found.node_id)
    assert (found.role, found.cluster) == ("agent", "lab")
    assert (folder / "node-id").read_text() == f"{found.node_id}\n"
    assert (folder / "gossip.key").read_text() == "Z29zc2lw\n"
    assert (folder / "hub.seed").read_text() == "SAexample\n"


def test_it_joins_and_never_founds(identity: ControlIdentity, tmp_path: Path) -> None:
    folder = written(make_seed("lab", identity, SeedOrder("edge1", PEERS)), tmp_path)

    settings = load_agent_settings(folder / "agent.toml")

    assert settings.bootstrap == 0
    assert settings.peers == PEERS
    assert settings.address == ADDRESS_BY_DHCP
    assert "network" not in {path.name for path in folder.iterdir()}


def test_a_fixed_address_is_in_settings_certificate_and_network(
    identity: ControlIdentity, tmp_path: Path
) -> None:
    network = SeedNetwork("10.0.0.20/24", "10.0.0.254", ("10.0.0.53",))
    files = make_seed("lab", identity, SeedOrder("edge1", PEERS, network=network))
    folder = written(files, tmp_path)

    assert load_agent_settings(folder / "agent.toml").address == "10.0.0.20"
    ca = identity.authority.cert_pem
    assert needs_renewal(files["pki/cert.pem"], ca, ("10.0.0.20",), time.time()) is None
    lines = files["network"].decode().splitlines()
    assert {"Address=10.0.0.20/24", "Gateway=10.0.0.254", "DNS=10.0.0.53"} <= set(lines)


def test_two_seeds_are_two_members(identity: ControlIdentity) -> None:
    one, other = (make_seed("lab", identity, SeedOrder("edge1", PEERS)) for _ in range(2))

    for file in ("node-id", "pki/key.pem", "pki/cert.pem"):
        assert one[file] != other[file]


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (SeedOrder("Edge_1", PEERS), "cannot name a member"),
        (SeedOrder("e" * 57, PEERS), "cannot name a member"),
        (SeedOrder("edge1", PEERS, taken=("edge1",)), "has a member edge1 already"),
        (SeedOrder("edge1", ()), "no member of lab is known"),
        (SeedOrder("edge1", ("10.0.0.1",)), "no ADDRESS:PORT"),
        (SeedOrder("edge1", (*PEERS, "x y:7946")), "no ADDRESS:PORT"),
        (SeedOrder("edge1", ("10.0.0.1:0",)), "no ADDRESS:PORT"),
        (SeedOrder("edge1", PEERS, network=SeedNetwork("10.0.0.2/24", "10.9.0.1")), "not in"),
        (SeedOrder("edge1", PEERS, network=SeedNetwork("10.0.0.20")), "prefix"),
        (SeedOrder("edge1", PEERS, network=SeedNetwork("10.0.0.300/24")), "no IP address"),
        (SeedOrder("edge1", PEERS, network=SeedNetwork("10.0.0.2/24", "gate\nX=1")), "no IP"),
        (SeedOrder("edge1", PEERS, network=SeedNetwork("10.0.0.2/24", dns=("a",))), "no IP"),
    ],
)
def test_what_cannot_be_is_refused(identity: ControlIdentity, order: SeedOrder, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_seed("lab", identity, order)


def test_a_private_key_does_not_get_into_a_seed() -> None:
    with pytest.raises(ConfigError, match="no public key") as refused:
        read_authorized_keys(["-----BEGIN OPENSSH PRIVATE KEY-----", "c2VjcmV0"])

    assert "c2VjcmV0" not in str(refused.value)
    assert read_authorized_keys(["# mine", "", "ssh-ed25519 AAAA me"]) == "ssh-ed25519 AAAA me"
