"""Members' keys for the hub: this one's is said in the log, and those of others are looked at.

Invariant: a key counts only where the certificate of its member has signed it. So no leader, and
nobody with a copy of the state, can have the hub let in a key of their own as another's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import msgspec
import structlog

from sappers.decisions.hub_access import hub_access, is_let_in, may_say_keys
from sappers.errors import IdentityError
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import PutHubKey
from sappers.model.hub import BY_SEED, HubAccess, HubKey
from sappers.model.known_types import UNREADABLE
from sappers.model.member import Member
from sappers.ports import Clock, SignedMessages

# In place of a subject: it is said in the log, and on no hub.
STATED_AS = "hub key"

log = structlog.get_logger(__name__)


class HubKeys:
    """Says this member's key, and whom this member's server lets in.

    Args:
        key: This member's, as its certificate is now.
        messages: Signs it, and knows who signed the others'.
    """

    def __init__(
        self, me_id: str, key: Callable[[], HubKey], messages: SignedMessages, clock: Clock
    ) -> None:
        self._me_id = me_id
        self._key = key
        self._messages = messages
        self._clock = clock
        self._statement = b""
        self._seen: Mapping[str, bytes] = {}
        self._looked_at: dict[tuple[str, bytes], HubKey | None] = {}

    def renew(self) -> None:
        """The certificate is another one: the key is said anew, signed with that."""
        self._statement = b""

    def plan(self, state: ClusterState, gossip: Collection[Member]) -> tuple[PutHubKey, ...]:
        """What is to be committed: this member's key, where the state has another statement."""
        wanted = self._me_id in state.members and self._me_id not in state.revoked
        if not wanted:
            return ()
        if not self._statement:
            said = msgspec.json.encode(self._key())
            self._statement = self._messages.sign(STATED_AS, said)
        is_said = state.hub_keys.get(self._me_id) == self._statement
        if is_said or not may_say_keys(gossip):  # in this order: all members are looked at
            return ()
        return (PutHubKey(self._me_id, self._statement),)

    def may_connect(self, state: ClusterState, gossip: Collection[Member]) -> bool:
        """Whether a connection to the hub would last: not before this member's key is known.

        Where there are members of before, it is made as they make theirs.
        """
        return is_let_in(state, self._me_id) or not may_say_keys(gossip)

    def access(self, state: ClusterState) -> HubAccess:
        """Whom this member's hub server is to let in, where it has one."""
        if self._me_id not in state.hub_servers:
            return BY_SEED
        if state.hub_keys is not self._seen:
            before, self._looked_at, self._seen = self._looked_at, {}, state.hub_keys
            for said in state.hub_keys.items():
                self._looked_at[said] = before[said] if said in before else self._look_at(*said)
        proven = {who: key for (who, _), key in self._looked_at.items() if key is not None}
        return hub_access(state, proven, self._clock.now())

    def _look_at(self, member_id: str, statement: bytes) -> HubKey | None:
        try:
            signer, said = self._messages.open(STATED_AS, statement)
            if signer != member_id:
                raise IdentityError(f"{signer} signed it")
            return msgspec.json.decode(said, type=HubKey)
        except (IdentityError, *UNREADABLE) as error:
            log.warning("no key for the hub", of=member_id, reason=str(error))
            return None
