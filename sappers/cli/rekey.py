"""`sappers-deploy rekey`: all members but those that are revoked get another gossip key."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from sappers.api.operator_client import OperatorClient
from sappers.api.problems import decoded
from sappers.api.ways import Reached, at_once
from sappers.cli.session import Cluster, cluster_folder, open_cluster
from sappers.errors import ApiError, ConfigError
from sappers.model.gossip_keys import GossipKeys, rings_to
from sappers.provisioner.control.identity import (
    create_gossip_key,
    load_gossip_keys,
    save_gossip_keys,
)

CALL_SECONDS = 20.0


class _Shut(msgspec.Struct):
    """The part of the state that says who is shut out."""

    revoked: Mapping[str, Any] = {}


def rekey(*, cluster: Cluster = None) -> None:
    """Give all members a new gossip key while they run; who is revoked keeps the old one.

    All living members must be reached. Those that are away ask the others when they come back.
    """
    folder = cluster_folder(cluster)
    with open_cluster(cluster, None) as client:
        count = replace_gossip_key(client, folder)
    Console(stderr=True).print(f"{count} members have a new gossip key", highlight=False)


def replace_gossip_key(client: OperatorClient, folder: Path) -> int:
    """Do it; how many members have it now. Can be asked for again whenever it was broken off.

    Args:
        client: Of the whole cluster.
        folder: The cluster's, on this machine.

    Raises:
        ConfigError: Not all living members are reached; nothing was done.
        ApiError: A member broke off; the others understand it still.
        IdentityError: The folder has no gossip key.
    """
    before = load_gossip_keys(folder)
    members = _members(client)
    for keys in rings_to(before, create_gossip_key()):
        save_gossip_keys(folder, keys)
        _give(client, members, keys)
    return len(members)


def _members(client: OperatorClient) -> list[Reached]:
    """All that live and may have the key.

    Each is asked who is revoked, and one that is says so of itself least of all.
    """
    living = {
        (one.member.address, one.member.ports.http): one.member
        for one in client.view().members
        if one.member.lives
    }
    reached = {(one.endpoint.address, one.endpoint.port): one for one in client.everyone()}
    words = dict(zip(reached, at_once(partial(_revoked, client), reached.values()), strict=True))
    revoked = set().union(*(word for word in words.values() if word is not None))
    wanted = {at: one.name for at, one in living.items() if one.id not in revoked}
    if lacking := sorted(name for at, name in wanted.items() if words.get(at) is None):
        raise ConfigError(
            f"{', '.join(lacking)} cannot be reached: no member has a new key",
            hint="reach it, or stop its agent, and ask again; until then they would not "
            "understand each other",
        )
    return [one for at, one in sorted(reached.items()) if at in wanted]


def _revoked(client: OperatorClient, one: Reached) -> Collection[str] | None:
    """Who is shut out, by a member's word; None if it has none that is new."""
    try:
        answer = client.call_at(one, "GET", "/v1/state?consistency=linearizable")
        return decoded(answer, _Shut).revoked
    except ApiError:
        return None


def _give(client: OperatorClient, members: list[Reached], keys: GossipKeys) -> None:
    content = msgspec.json.encode(keys)

    def put(one: Reached) -> None:
        client.call_at(one, "PUT", "/v1/gossip-keys", content=content, timeout_seconds=CALL_SECONDS)

    at_once(put, members)
