"""The wire schema of the calls about the log and its voters (`/v1/raft`)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from sappers.api.wire import Input
from sappers.model.limits import MemberId
from sappers.model.observation import RaftRole, RaftStatus


class WantedLeader(Input, frozen=True):
    """Who is to lead."""

    member_id: MemberId


class WantedRecovery(Input, frozen=True):
    """Which voter goes on alone: named twice, by itself and by its cluster."""

    member_id: MemberId
    cluster_id: Annotated[str, Meta(max_length=128)]


class RaftReport(msgspec.Struct, frozen=True):
    """One member's own word of its log.

    Attributes:
        trouble: Why this member does not use the vote that it has, or cannot just now, or empty.
    """

    member_id: str
    name: str
    cluster_id: str
    status: RaftStatus
    trouble: str = ""

    @property
    def votes_here(self) -> bool:
        """Whether this member has a raft process."""
        return self.status.role is not RaftRole.NONE
