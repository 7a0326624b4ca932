"""Who is there, by gossip, and what members ask each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Any, Protocol

from sappers.model.gossip_keys import GossipKeys
from sappers.model.member import Member


class Membership(Protocol):
    """Gossip: who is there. Owned by `membership/`."""

    async def start(self) -> None:
        """Bind and begin to dial every known peer, for ever.

        Raises:
            MembershipError: The port is taken or the key is wrong.
        """

    async def stop(self, *, leave: bool) -> None:
        """Close; with `leave` the others are told that this was meant."""

    def members(self) -> tuple[Member, ...]:
        """Everyone ever met, this member included, with state; by id."""

    async def publish(self, me: Member) -> None:
        """Tell the others what changed about this member."""

    async def use_keys(self, keys: GossipKeys) -> None:
        """Seal with the first of these from now on, and open what is sealed with any of them.

        Raises:
            MembershipError: One cannot be used.
        """

    def forget(self, member_ids: Collection[str]) -> None:
        """Speak of these no more, and dial them no more, unless they are met alive again."""

    def changes(self) -> AsyncIterator[None]:
        """Yields whenever `members()` may differ."""


class PeerClient(Protocol):
    """Calls other members' HTTP API (`api/`)."""

    async def call(
        self, member: Member, method: str, path: str, *, body: Any = None, timeout_seconds: float
    ) -> bytes:
        """One call; the answer's body. `body` is encoded as JSON unless it is bytes.

        Raises:
            ApiError: The member answered an error (its status) or did not answer (status 0).
        """
