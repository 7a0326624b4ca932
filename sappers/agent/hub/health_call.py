"""What another member says of itself, asked over its API."""

from __future__ import annotations

import msgspec

from sappers.errors import ApiError
from sappers.model.known_types import UNREADABLE
from sappers.model.member import Member
from sappers.model.view import MemberHealth
from sappers.ports import PeerClient


async def health_of(
    peers: PeerClient, member: Member, timeout_seconds: float
) -> MemberHealth | None:
    """Its word; None where it does not answer, or not as an agent does."""
    try:
        answer = await peers.call(member, "GET", "/v1/health", timeout_seconds=timeout_seconds)
        return msgspec.json.decode(answer, type=MemberHealth)
    except (ApiError, *UNREADABLE):
        return None
