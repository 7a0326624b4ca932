"""Observations: last readings of the world, as decisions take them. Never desired state."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from sappers.model.hub import BY_SEED, HubAccess, HubReading
from sappers.model.member import Member
from sappers.model.suspicion import PulseReading


class RaftRole(StrEnum):
    """A voter's role; NONE for members that only follow."""

    LEADER = "leader"
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    NONE = "none"


class RaftStatus(msgspec.Struct, frozen=True):
    """How the replicated log stands, seen from one member.

    Attributes:
        leader_id: None while no leader is known.
        commit_index: Highest index known to be committed, by the leader's word, too; a new leader's
            own first entry until it is. Nothing older than it is up to date.
        applied_index: Highest index in this member's state.
        electorate: Ids of the voters in the Raft configuration, empty when not known.
        unheard: By a leader alone: for how many seconds it has not heard voters, by id; those that
            it heard within two seconds lack.
        snapshot_index: Of this voter's newest snapshot on disk; 0 without one.
        last_index, last_term: Of the newest entry in this voter's log, committed or not.
        halted: Why this member applies nothing more of the log, or empty.
        is_removed: This member had a vote and was removed: its raft process has ended for good.
        down: Why this voter's raft process does not run, though it should, or empty.
        is_damaged: It cannot trust its files: it does not run before they are put away.
    """

    role: RaftRole
    term: int
    leader_id: str | None
    commit_index: int
    applied_index: int
    electorate: tuple[str, ...] = ()
    unheard: dict[str, int] = {}
    snapshot_index: int = 0
    is_removed: bool = False
    last_index: int = 0
    last_term: int = 0
    halted: str = ""
    down: str = ""
    is_damaged: bool = False

    def is_up_to_date(self, state_term: int) -> bool:
        """Whether the state has all that was committed when the leader spoke last.

        A new leader does not know what was committed before it, until its own first entry is.

        Args:
            state_term: Of the newest entry in this member's state.
        """
        return (
            self.leader_id is not None
            and self.applied_index >= self.commit_index
            and state_term == self.term
        )


class GuestProcess(msgspec.Struct, frozen=True):
    """One guest's VMM as the launcher sees it.

    Attributes:
        running: Whether the process lives and the guest's kernel has not panicked.
        reason: Why it is not running: `guest panicked`, `exit code 1: …`. Of one that runs: how it
            was started, `cold boot: there is no template yet`, as far as that is known.
        started_at: Monotonic seconds of this host's clock, or None when not known.
    """

    allocation_id: str
    running: bool
    reason: str = ""
    started_at: float | None = None


class HealthPush(msgspec.Struct, frozen=True):
    """The last word of a guest's sidecar, with the time it came in.

    Attributes:
        received_at: Monotonic seconds of this host's clock.
        healthy_at: When it last said that it is well in this boot, or None.
        boot_id: Changes whenever the guest boots again.
    """

    allocation_id: str
    received_at: float
    healthy: bool
    reason: str
    boot_id: str
    healthy_at: float | None = None


class ImageReading(msgspec.Struct, frozen=True):
    """How an image that a guest of this host needs is here.

    Attributes:
        whole: All of it is here.
        reason: Why it is not, one sentence: `image hello: 37 of 52 chunks`.
        hopeless: It cannot come here by waiting: it is not trusted, or the disk is full.
    """

    whole: bool
    reason: str = ""
    hopeless: bool = False


class HubObservation(msgspec.Struct, frozen=True):
    """The hub as one member sees it.

    Attributes:
        server_running: This member's own nats-server lives.
        server_peers: What that server was started with, `id@address:port` each.
        server_left: This member has taken note that it is no server, since the agent started.
        server_refuses: Allocations whose guests that server lets in no more.
        server_access: Whom that server lets in.
        access: Whom it should let in.
        durable: Where durable messages are, while this member leads and the hub says it.
        connected: This member's client is connected to the hub.
    """

    server_running: bool = False
    server_peers: tuple[str, ...] = ()
    server_left: bool = False
    server_refuses: tuple[str, ...] = ()
    server_access: HubAccess = BY_SEED
    access: HubAccess = BY_SEED
    durable: HubReading | None = None
    connected: bool = False


class MemberObservation(msgspec.Struct, frozen=True):
    """What one agent sees of its own host and of the cluster.

    Attributes:
        gossip: Every member that gossip knows, dead ones too, with state.
        guests: By allocation id; guests of this host only.
        pushes: By allocation id.
        restarts: By allocation id: (count, monotonic seconds of the last one, or of the launch).
        failed_launches: By allocation id: why the last launch failed.
        images: By digest: images that this member is to have; one that lacks counts as whole.
        leases: By allocation id: seconds for which the guest of an exclusive allocation of this
            host may still run. One that lacks has none.
        surely_ended: Exclusive allocations that ended badly, and so long ago that no clock leaves
            doubt that their guests have, too.
        under_way: Allocations that are being launched, restarted or stopped right now.
        caught_up: This member's state has been as new as the cluster's since the agent started;
            until then it touches no guest.
        pulses: Of members that were heard at least once, while this member's own come back to it.
        leading_seconds: For how long this member has led; 0 where it does not.
        agent_started_at: Monotonic seconds of this host's clock.
    """

    gossip: tuple[Member, ...] = ()
    raft: RaftStatus = RaftStatus(RaftRole.NONE, 0, None, 0, 0)
    hub: HubObservation = HubObservation()
    guests: dict[str, GuestProcess] = {}
    pushes: dict[str, HealthPush] = {}
    restarts: dict[str, tuple[int, float]] = {}
    failed_launches: dict[str, str] = {}
    images: dict[str, ImageReading] = {}
    leases: dict[str, float] = {}
    surely_ended: frozenset[str] = frozenset()
    under_way: frozenset[str] = frozenset()
    caught_up: bool = False
    agent_started_at: float = 0.0
    pulses: dict[str, PulseReading] = {}
    leading_seconds: float = 0.0
