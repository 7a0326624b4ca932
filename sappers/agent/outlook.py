"""What this member knows of the others and of what it may do: for those parts of it that ask."""

from __future__ import annotations

from collections.abc import Mapping

from sappers.agent.leases import Leases
from sappers.config import AgentSettings
from sappers.decisions.guest_scope import scope_of
from sappers.model.guest_scope import GuestScope
from sappers.model.member import Member
from sappers.ports import Membership, ReplicatedLog


class Outlook:
    """The part of `Agent` that answers from its state and from gossip, at once."""

    _settings: AgentSettings
    _membership: Membership
    _leases: Leases
    _me: Member
    _hub_members: tuple[Member, ...]

    @property
    def log(self) -> ReplicatedLog:
        """The log as it is now."""
        raise NotImplementedError

    @property
    def has_log(self) -> bool:
        """Whether `start` has opened the log."""
        raise NotImplementedError

    def trusted_image_keys(self) -> frozenset[str]:
        """Public keys whose images may be launched: the state's, or while it has none our own."""
        agreed = self.log.state().image_keys if self.has_log else ()
        return frozenset(one.key for one in agreed or self._settings.image_keys)

    def is_revoked(self, member_id: str) -> bool:
        """Whether a member's certificate is refused."""
        return self.has_log and member_id in self.log.state().revoked

    def voter_addresses(self) -> Mapping[str, str]:
        """Where the Raft of those listens who say by gossip that they vote, `ip:port` by id."""
        return {
            one.id: f"{one.address}:{one.ports.raft}"
            for one in self._membership.members()
            if one.has_vote and one.id != self._me.id
        }

    def raft_address_of(self, voter_id: str) -> str | None:
        """Where a voter's Raft is now by gossip's word, `ip:port`; None when gossip has none."""
        member = next((one for one in self._membership.members() if one.id == voter_id), None)
        return f"{member.address}:{member.ports.raft}" if member else None

    def hub_members(self) -> tuple[Member, ...]:
        """The members that run the hub, as last seen; guests are told these."""
        return self._hub_members

    def guest_scope(self, allocation_id: str) -> GuestScope | None:
        """What the guest of an allocation may say and hear; None where there should be none."""
        return scope_of(self.log.state(), allocation_id) if self.has_log else None

    def scope_to_renew(self, allocation_id: str) -> GuestScope | None:
        """As `guest_scope`; None, too, where no leader is known.

        A member that is cut off must not go on to renew what the cluster has ended.
        """
        if not self.has_log or self.log.status().leader_id is None:
            return None
        return self.guest_scope(allocation_id)

    def lease_of(self, allocation_id: str) -> float:
        """When the lease of an exclusive allocation ends (CLOCK_BOOTTIME); 0 where it has none."""
        return self._leases.until(allocation_id)
