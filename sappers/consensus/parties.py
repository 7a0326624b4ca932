"""Who a voter deals with: its links to the others, its listener, and those who propose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pysyncobj.node import Node

from sappers.consensus.snapshot import Snapshot
from sappers.model.commands import Entry


class PeerNode(str, Node):  # type: ignore[misc] # the library has no types
    """A voter as pysyncobj wants it, by its id; hashed by the language and not by methods."""

    def __init__(self, voter_id: str) -> None:
        Node.__init__(self, voter_id)


class PeerLinks(Protocol):
    """What the layer needs of its transport beside pysyncobj's Transport.

    Attributes:
        farewell: What to answer, by id, to a member of the cluster that has no vote here; None to
            say nothing.
        is_revoked: Whether a member's certificate is refused, by id.
    """

    farewell: Callable[[str], dict[str, Any] | None]
    is_revoked: Callable[[str], bool]

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        """Send one message to one voter if it is connected."""

    def has_room(self, node: Any) -> bool:
        """Whether little is still to be sent to a voter."""

    def tells_time(self, node: Any) -> bool:
        """Whether a voter is connected whose version answers probes."""

    def addNode(self, node: Any) -> None:  # noqa: N802
        """Connect with one more voter."""

    def dropNode(self, node: Any) -> None:  # noqa: N802
        """Say what is still to be said to a voter, then take nothing from it any more."""


class Listener(Protocol):
    """Whoever wants to know what is committed; must not raise."""

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """The state was replaced by a leader's snapshot."""

    def on_applied(self, entry: Entry) -> None:
        """The entry is committed and applied."""

    def on_removed(self, index: int) -> None:
        """The entry at `index` took this member's vote: it must end."""


class Answer(Protocol):
    """How the proposer of an entry hears of it; exactly one of these is called."""

    def done(self, index: int, term: int, refused: str) -> None:
        """Committed and applied."""

    def rejected(self, reason: str) -> None:
        """Definitely not committed."""

    def unknown(self, reason: str) -> None:
        """Covered by a snapshot that does not tell."""
