"""`python -m benchmarks.gossip_process CONFIG`: one member, which prints whom it sees how.

Each line is a JSON object of names and states, written whenever something changed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from sappers.config import AgentSettings
from sappers.membership.gossip import KinshipMembership
from sappers.model.gossip_keys import GossipKeys
from sappers.model.member import Accelerator, Member, Ports, Resources


async def run(config: dict[str, Any]) -> None:
    """Gossip until killed."""
    name, address, ports = config["name"], config["address"], Ports(gossip=config["port"])
    me = Member(name, name, address, ports, Resources(2, 1024), Accelerator("tcg", "none"), "0")
    settings = AgentSettings(
        cluster="bench",
        node_name=name,
        address=address,
        ports=ports,
        peers=tuple(config["peers"]),
    )
    known = Path(config["folder"]) / f"{name}.json"
    keys = GossipKeys((config["key"],))
    membership = KinshipMembership(me=me, settings=settings, keys=keys, known=known)
    await membership.start()
    async for _ in membership.changes():
        states = {member.id: member.state.value for member in membership.members()}
        print(json.dumps(states), flush=True)


if __name__ == "__main__":
    asyncio.run(run(json.loads(sys.argv[1])))
