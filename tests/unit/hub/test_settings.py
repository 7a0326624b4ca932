"""What a server is told: the settings on which promises rest."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sappers.hub.credentials import AgentCredentials, create_hub_account
from sappers.hub.settings import server_settings
from sappers.model.hub import BY_SEED
from sappers.model.member import Accelerator, Member, Ports, Resources
from tests.identities import make_cluster_identities


@pytest.mark.parametrize("servers", [1, 3])
def test_what_is_acknowledged_is_on_the_disk(tmp_path: Path, servers: int) -> None:
    account = create_hub_account("test")
    credentials = AgentCredentials(account.account_seed)
    members = [
        Member(name, name, "127.0.0.1", Ports(), Resources(1, 512), Accelerator("tcg", ""), "0")
        for name in ("a", "b", "c")[:servers]
    ]
    written = server_settings(
        members[0],
        "127.0.0.1",
        members,
        make_cluster_identities(tmp_path, ["a"])["a"],
        credentials.operator_jwt(),
        credentials.accounts(account.account_jwt, (), BY_SEED),
        tmp_path / "nats-server.log",
        tmp_path,
    )
    assert msgspec.json.decode(written)["jetstream"]["sync_interval"] == "always"
