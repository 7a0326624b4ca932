"""Which host is which member.

Invariant: no two hosts are signed as one member. A host keeps its id itself, so its word is
checked: a hostile one, or the copy of another's disk, must not become somebody else. An id is
believed of the host that it is on record for, and of who has the key of our certificate for it.
Whoever else says so is refused: what is on record here is not all that was ever signed.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection, Mapping

from sappers.config import NAME_PATTERN  # lower case alone, as certificates do not tell cases apart
from sappers.errors import HostUnfit, IdentityError
from sappers.provisioner.places import STATE_FOLDER
from sappers.security.possession import Possession, check_possession
from sappers.security.tls import PeerIdentity

Prove = Callable[[str], Possession]


class NodeIds:
    """Who has which id; the threads of all hosts ask."""

    def __init__(
        self,
        cluster: str,
        owners: Mapping[str, str],
        present: Collection[str],
        authority_pem: bytes | None,
    ) -> None:
        """Make it.

        Args:
            owners: Names of the hosts that ids are on record for, by id.
            present: Names of the hosts that there are; any other may have been renamed.
            authority_pem: Whose certificates are ours; None: nothing was ever signed.
        """
        self._cluster = cluster
        self._owners = dict(owners)
        self._present = frozenset(present)
        self._authority_pem = authority_pem
        self._lock = threading.Lock()

    def claim(self, node_id: str, host: str, prove: Prove) -> None:
        """A host says that this is its id; `prove` has it sign what it is given.

        Raises:
            HostUnfit: It is no id, another host's, or the host has no proof that it is its own.
        """
        if not NAME_PATTERN.fullmatch(node_id):
            raise HostUnfit(
                host,
                f"{node_id[:80]!r} is no node id",
                hint=f"stop sappers.service there and remove {STATE_FOLDER}: it joins anew",
            )
        if self._owners.get(node_id) != host:
            self._refuse_taken(node_id, host)
            self._demand_proof(node_id, host, prove)
        with self._lock:
            self._refuse_taken(node_id, host)
            self._owners[node_id] = host

    def _refuse_taken(self, node_id: str, host: str) -> None:
        owner = self._owners.get(node_id, host)
        if owner != host and owner in self._present:
            raise HostUnfit(
                host,
                f"it says that it is {node_id}, and that is {owner}",
                hint=f"is it a copy of {owner}'s disk? Stop sappers.service there and remove "
                f"{STATE_FOLDER}: it joins as a new member",
            )

    def _demand_proof(self, node_id: str, host: str, prove: Prove) -> None:
        if self._authority_pem is None:
            return
        challenge = secrets.token_hex(16)
        try:
            check_possession(
                self._authority_pem,
                prove(challenge),
                PeerIdentity(node_id, "agent", self._cluster),
                challenge,
            )
        except IdentityError as error:
            owner = self._owners.get(node_id)
            renamed = f"it was {owner} here: call it so in the inventory, or " if owner else ""
            raise HostUnfit(
                host,
                f"it says that it is {node_id}, and cannot prove it: {error.message}",
                hint=f"{renamed}stop sappers.service there and remove {STATE_FOLDER}: "
                "it joins as a new member",
            ) from error
