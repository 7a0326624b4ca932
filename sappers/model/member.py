"""A member: an agent in the gossip group, as the cluster knows it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec


class MemberState(StrEnum):
    """What gossip says of a member."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"


class Resources(msgspec.Struct, frozen=True):
    """What a host has to give to guests."""

    cpus: int
    memory_mib: int


class Accelerator(msgspec.Struct, frozen=True):
    """How guests run on a host, and why."""

    kind: Literal["kvm", "tcg"]
    reason: str


GATEWAY_PORT = 8080  # where there is a gateway and nobody says another


class Ports(msgspec.Struct, frozen=True):
    """The ports an agent listens on.

    Attributes:
        gateway: Where services are reached by their name over HTTP; 0 where there is no gateway.
    """

    gossip: int = 7946
    raft: int = 12000
    http: int = 11000
    hub: int = 4222
    hub_routes: int = 6222
    gateway: int = 0

    def taken(self) -> frozenset[int]:
        """All of them; no guest may publish one of these."""
        return frozenset(msgspec.structs.astuple(self)) - {0}


class Member(msgspec.Struct, frozen=True):
    """An agent: who it is, where it is, what it has, and what gossip says of it.

    Attributes:
        id: Stable and unique, kept on the agent's disk; a wiped disk gets a new one.
        name: What people call it; the inventory's host name.
        address: IP address that other members reach it at; may change, the id does not.
        voter_tag: The operator prefers it for consensus.
        has_vote: It takes part in Raft, by its own word.
        vote_is_damaged: It could use no vote that it is given now: it has not put away yet what it
            voted with, whole or damaged, or has not heard from the cluster yet that it has none.
        state: What gossip says of it.
        has_hub_key: It has a key of its own for the hub, and knows of those of others: members of
            before did not. As fleeting as images.
        log_format: The newest format of the log that it knows. As fleeting: members of before would
            register nothing new of it, and make other events of the entry.
        images: First 8 hex digits of the images it holds, wholly or in part, newest first and
            as many as gossip carries. Too fleeting for the log, which has none.
        state_since: Unix time in seconds when the cluster agreed on `state`; 0 in gossip.
    """

    id: str
    name: str
    address: str
    ports: Ports
    resources: Resources
    accelerator: Accelerator
    version: str
    voter_tag: bool = False
    has_vote: bool = False
    vote_is_damaged: bool = False
    zone: str = ""
    state: MemberState = MemberState.ALIVE
    state_since: float = 0.0
    images: tuple[str, ...] = ()
    has_hub_key: bool = False
    log_format: int = 0

    @property
    def lives(self) -> bool:
        """Whether gossip hears it, or heard it a moment ago."""
        return self.state in (MemberState.ALIVE, MemberState.SUSPECT)

    def lasting(self) -> Member:
        """The member without what only gossip knows: as it is registered in the log."""
        if not self.images and not self.has_hub_key and not self.log_format:
            return self
        return msgspec.structs.replace(self, images=(), has_hub_key=False, log_format=0)
