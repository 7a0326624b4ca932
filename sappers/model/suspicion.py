"""A suspicion: something speaks against a member, by the cluster's own word."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class SuspicionSource(StrEnum):
    """Who does not hear a member; each can be wrong alone."""

    GOSSIP = "gossip"  # gossip has it dead
    RAFT = "raft"  # a voter, and the leader's raft process hears nothing of it
    PULSE = "pulse"  # its agent's loop does not go round, or does not reach the hub
    GUESTS = "guests"  # all its guests are silent at once


class Suspicion(msgspec.Struct, frozen=True):
    """What is held against a member; without sources it is trusted again. Times are Unix seconds.

    Attributes:
        reason: Of the sources, a sentence for a person; stays once it is trusted again.
        since: When the first of the sources came, or when the last one went.
        changed_at: When `sources` changed last.
    """

    member_id: str
    sources: tuple[SuspicionSource, ...]
    reason: str
    since: float
    changed_at: float


class Pulse(msgspec.Struct, frozen=True):
    """What an agent's loop says of itself, over the hub, again and again.

    Attributes:
        guests: How many run on its host and have been heard before.
        silent: How many of those it has not heard for a while.
    """

    guests: int = 0
    silent: int = 0


class PulseReading(msgspec.Struct, frozen=True):
    """A member's last pulse as another one heard it.

    Attributes:
        age_seconds: Since it came.
    """

    age_seconds: float
    pulse: Pulse = Pulse()
