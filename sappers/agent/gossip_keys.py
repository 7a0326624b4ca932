"""This member's gossip keys: in a file, in use, and how it gets those that it has missed.

Invariant: what is in use is in the file first, so that a restart does not go back.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import structlog

from sappers.durable import write_durably
from sappers.errors import ApiError, MembershipError
from sappers.model.gossip_keys import GossipKeys
from sappers.model.known_types import UNREADABLE
from sappers.model.member import Member, MemberState
from sappers.ports import Membership, PeerClient

PATH = "/v1/gossip-keys"
LOOK_SECONDS = 10.0
CALL_SECONDS = 5.0

log = structlog.get_logger(__name__)


class GossipKeyRing:
    """Takes new keys on; a member that was away while all others did asks them."""

    def __init__(
        self, file: Path, keys: GossipKeys, membership: Membership, peers: PeerClient
    ) -> None:
        self._file = file
        self._membership = membership
        self._peers = peers
        self.keys = keys

    async def replace(self, keys: GossipKeys) -> None:
        """Use these from now on, and after a restart.

        Raises:
            MembershipError: They are not in use: the disk is full, or gossip refuses them.
        """
        if keys == self.keys:
            return
        try:
            await asyncio.to_thread(write_durably, self._file, keys.text.encode())
        except OSError as error:
            raise MembershipError(f"{self._file}: {error.strerror}") from error
        self.keys = keys
        await self._membership.use_keys(keys)
        log.info("gossip keys replaced", keys=len(keys.keys))

    async def run(self, me_id: str) -> None:
        """While most of the others are not heard, ask each whether it has other keys."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            others = [one for one in self._membership.members() if one.id != me_id]
            if is_lonely(others):
                await self._ask(others)

    async def _ask(self, others: list[Member]) -> None:
        for one in others:
            if one.state is MemberState.ALIVE:
                continue  # it hears us, so its keys are ours
            try:
                answer = await self._peers.call(one, "GET", PATH, timeout_seconds=CALL_SECONDS)
                keys = msgspec.json.decode(answer, type=GossipKeys)
                if keys != self.keys:
                    log.info("gossip has other keys", told_by=one.id)
                    await self.replace(keys)
                    return
            except (ApiError, MembershipError, *UNREADABLE) as error:
                log.debug("no keys of gossip", of=one.id, reason=str(error))


def is_lonely(others: list[Member]) -> bool:
    """Whether so few of the others are heard that this member may be the one that is wrong."""
    there = [one for one in others if one.state is not MemberState.LEFT]
    heard = [one for one in there if one.state is MemberState.ALIVE]
    return 2 * len(heard) < len(there)
