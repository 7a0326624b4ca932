"""The healer's place: it connects to the hub, says that it is ready, and pushes health.

It heals nothing yet. What a healer does when a member fails comes later; this is the guest it will
do it in.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sappers.sidecar.guest import Guest


async def run(guest: Guest) -> None:
    """Be ready for as long as the guest lives."""
    await guest.hub_connected()
    await guest.publish("ready", json.dumps({"healer": guest.allocation_id}).encode())
    guest.report()
    await asyncio.Event().wait()
