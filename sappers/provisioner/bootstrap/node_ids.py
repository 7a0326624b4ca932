"""Which host is which member.

Invariant: no two hosts are signed as one member. A host keeps its id itself, so its word is
checked: a hostile one, or the copy of another's disk, must not become somebody else.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from sappers.config import NAME_PATTERN  # lower case alone, as certificates do not tell cases apart
from sappers.errors import HostUnfit
from sappers.provisioner.places import STATE_FOLDER


class NodeIds:
    """Who has which id; the threads of all hosts ask."""

    def __init__(self, owners: Mapping[str, str]) -> None:
        """`owners` are the names of hosts whose ids are known already, by id."""
        self._owners = dict(owners)
        self._lock = threading.Lock()

    def claim(self, node_id: str, host: str) -> None:
        """A host says that this is its id.

        Raises:
            HostUnfit: It is no id, or another host's.
        """
        if not NAME_PATTERN.fullmatch(node_id):
            raise HostUnfit(
                host,
                f"{node_id[:80]!r} is no node id",
                hint=f"stop sappers.service there and remove {STATE_FOLDER}: it joins anew",
            )
        with self._lock:
            owner = self._owners.setdefault(node_id, host)
        if owner != host:
            raise HostUnfit(
                host,
                f"it says that it is {node_id}, and that is {owner}",
                hint=f"is it a copy of {owner}'s disk? Stop sappers.service there and remove "
                f"{STATE_FOLDER}: it joins as a new member",
            )
