"""What a member answers to those who ask it over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from sappers.model.commands import Proposal
from sappers.model.gossip_keys import GossipKeys
from sappers.model.member import Member
from sappers.model.repair import RepairKey, RepairLogin
from sappers.model.view import ClusterView, Genesis, MemberHealth
from sappers.ports.images import MemberImages
from sappers.ports.log import Applied, EventRecord, QuorumHeard, ReplicatedLog

LogLevel = Literal["DEBUG", "INFO", "WARN", "ERROR"]


class MemberService(Protocol):
    """What the HTTP API may ask of this member (`agent/`)."""

    @property
    def events(self) -> EventRecord:
        """What happened, as this member wrote it down."""

    @property
    def me(self) -> Member:
        """This member."""

    @property
    def log(self) -> ReplicatedLog:
        """The log as it is now; another object once this member becomes a voter."""

    @property
    def images(self) -> MemberImages:
        """The images on this host."""

    def members(self) -> tuple[Member, ...]:
        """What gossip says."""

    def leader(self) -> Member | None:
        """Who leads, as far as this member knows."""

    @property
    def hub_connected(self) -> bool:
        """Whether this member's client is connected to the hub."""

    def refused(self) -> Mapping[str, int]:
        """What was refused to guests and strangers since the agent started, by kind."""

    def pushes_heard(self) -> int:
        """Health pushes of guests here that were taken since the agent started."""

    async def health(self) -> MemberHealth:
        """This member's short word about itself, from memory."""

    async def view(self) -> ClusterView:
        """The cluster for `status`."""

    def check_repair_access(self, key: RepairKey, logins: Sequence[RepairLogin]) -> None:
        """Whether the cluster's own authority says so.

        Raises:
            IdentityError: As `RepairSigner.check`.
        """

    async def propose(self, proposal: Proposal, timeout_seconds: float) -> Applied:
        """Propose here if this member leads, else through the leader's API.

        Raises:
            NoQuorum: No leader is known, or it cannot commit.
            ProposalRejected, OutcomeUnknown: As `ReplicatedLog.propose`.
        """

    async def hear_quorum(self) -> QuorumHeard:
        """Ask the quorum, as its leader.

        Raises:
            ProposalRejected, OutcomeUnknown: As `ReplicatedLog.read_barrier`.
        """

    async def serial_log(self, allocation_id: str, tail_bytes: int) -> str:
        """The end of what a guest printed, from whichever member has it."""

    def gossip_keys(self) -> GossipKeys:
        """What gossip is sealed with."""

    async def put_gossip_keys(self, keys: GossipKeys) -> None:
        """Use these from now on, and after a restart.

        Raises:
            MembershipError: They are not in use.
        """

    def hub_credentials(self) -> str:
        """A NATS credentials file for a person: hears everything, says nothing."""

    def set_log_level(self, level: LogLevel) -> None:
        """Log what is of this level or above from now on."""

    async def accept_genesis(self, genesis: Genesis) -> None:
        """Become a voter as the founder says.

        Raises:
            IdentityError: This member has another genesis already, or is not named in it.
        """
