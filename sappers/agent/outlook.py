"""What this member knows of the others and of what it may do: for those parts of it that ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sappers.decisions.guest_scope import scope_of
from sappers.decisions.hub_access import is_let_in, last_revocation
from sappers.model.guest_scope import GuestScope
from sappers.model.image import ImageKey
from sappers.ports import Membership, ReplicatedLog


class Outlook:
    """Answers from the state and from gossip, at once.

    Args:
        image_keys: Those of the settings.
        log: As it is now; None until it is opened.
    """

    def __init__(
        self,
        me_id: str,
        image_keys: tuple[ImageKey, ...],
        membership: Membership,
        log: Callable[[], ReplicatedLog | None],
    ) -> None:
        self._me_id = me_id
        self._image_keys = image_keys
        self._membership = membership
        self._log = log

    def trusted_image_keys(self) -> frozenset[str]:
        """Public keys whose images may be launched: the state's, or while it has none our own."""
        log = self._log()
        agreed = log.state().image_keys if log else ()
        return frozenset(one.key for one in agreed or self._image_keys)

    def is_revoked(self, member_id: str) -> bool:
        """Whether a member's certificate is refused."""
        log = self._log()
        return log is not None and member_id in log.state().revoked

    def is_let_in(self) -> bool:
        """Whether the hub's servers know this member's own key."""
        log = self._log()
        return log is not None and is_let_in(log.state(), self._me_id)

    def last_revocation(self) -> float:
        """Unix time; 0 where no member was revoked."""
        log = self._log()
        return last_revocation(log.state()) if log else 0.0

    def voter_addresses(self) -> Mapping[str, str]:
        """Where the Raft of those listens who say by gossip that they vote, `ip:port` by id."""
        return {
            one.id: f"{one.address}:{one.ports.raft}"
            for one in self._membership.members()
            if one.has_vote and one.id != self._me_id
        }

    def raft_address_of(self, voter_id: str) -> str | None:
        """Where a voter's Raft is now by gossip's word, `ip:port`; None when gossip has none."""
        member = next((one for one in self._membership.members() if one.id == voter_id), None)
        return f"{member.address}:{member.ports.raft}" if member else None

    def guest_scope(self, allocation_id: str) -> GuestScope | None:
        """What the guest of an allocation may say and hear; None where there should be none."""
        log = self._log()
        return scope_of(log.state(), allocation_id) if log else None

    def scope_to_renew(self, allocation_id: str) -> GuestScope | None:
        """As `guest_scope`; None, too, where no leader is known.

        A member that is cut off must not go on to renew what the cluster has ended.
        """
        log = self._log()
        if log is None or log.status().leader_id is None:
            return None
        return self.guest_scope(allocation_id)
