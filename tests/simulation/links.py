"""The links between voters, in the place of TLS connections."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from pysyncobj.node import Node
from pysyncobj.transport import Transport

from sappers.errors import LogDamaged
from tests.simulation.loop import Life, VirtualLoop, current_life
from tests.simulation.network import Network

SILENCE_SECONDS = 2.0
LOOK_SECONDS = 0.2


class RaftMesh:
    """All links of all raft processes: opens, breaks and forgets them as sockets would."""

    def __init__(self, loop: VirtualLoop, network: Network) -> None:
        self.loop = loop
        self.network = network
        self.ends: dict[str, RaftLinks] = {}
        self._epochs: dict[frozenset[str], int] = {}
        self._open: dict[frozenset[str], int] = {}
        self._heard_at: dict[tuple[str, str], float] = {}
        loop.call_later(LOOK_SECONDS, self._look)

    def epoch(self, a: str, b: str) -> int:
        """Which connection of the two this is; 0 for none."""
        return self._open.get(frozenset((a, b)), 0)

    def enter(self, links: RaftLinks) -> None:
        self.ends[links.me] = links

    def leave(self, links: RaftLinks) -> None:
        """A process ended. Its kernel says so after all that it had sent; a host without power
        says nothing.
        """
        if self.ends.get(links.me) is not links:
            return
        del self.ends[links.me]
        silent = links.me in self.network.down
        for pair in [pair for pair in self._open if links.me in pair]:
            (other,) = pair - {links.me}
            epoch = self._open.pop(pair)
            is_told = not silent and self.network.passes(links.me, other)
            after = self.network.weather.slowest_seconds + 0.001
            self._tell(other, links.me, -epoch, after=after if is_told else SILENCE_SECONDS)

    def break_off(self, a: str, b: str) -> None:
        if epoch := self._open.pop(frozenset((a, b)), 0):
            self._tell(a, b, -epoch)
            self._tell(b, a, -epoch)

    def _tell(self, whom: str, about: str, epoch: int, after: float = 0.0) -> None:
        if (links := self.ends.get(whom)) is not None:
            self.loop.call_later(after, links.note, about, epoch, context=links.life.context)

    def _look(self) -> None:
        self.loop.call_later(LOOK_SECONDS, self._look)
        names = sorted(self.ends)
        for place, a in enumerate(names):
            for b in names[place + 1 :]:
                self._look_at(self.ends[a], self.ends[b])

    def _look_at(self, a: RaftLinks, b: RaftLinks) -> None:
        pair = frozenset((a.me, b.me))
        now = self.loop.time()
        awake = not a.life.is_paused and not b.life.is_paused
        if pair in self._open:
            for one, other in ((a, b), (b, a)):
                if self.network.passes(one.me, other.me) and not one.life.is_paused:
                    self._heard_at[one.me, other.me] = now
                elif now - self._heard_at[one.me, other.me] > SILENCE_SECONDS:
                    self.break_off(a.me, b.me)
                    return
            if not (a.wants(b.me) and b.wants(a.me)):
                self.break_off(a.me, b.me)
        elif awake and self.network.talk(a.me, b.me) and a.wants(b.me) != b.wants(a.me):
            host, guest = (b, a) if a.wants(b.me) else (a, b)
            if host.is_revoked(guest.me):
                return
            if message := host.farewell(guest.me):
                self.loop.call_later(0.0, guest.hear, host.me, message, context=guest.life.context)
        elif awake and self.network.talk(a.me, b.me) and a.dials(b.me) and b.wants(a.me):
            epoch = self._epochs[pair] = self._open[pair] = self._epochs.get(pair, 0) + 1
            self._heard_at[a.me, b.me] = self._heard_at[b.me, a.me] = now
            self._tell(a.me, b.me, epoch)
            self._tell(b.me, a.me, epoch)


class RaftLinks(Transport):
    """One voter's end of all its links; takes the place of `PeerTransport`."""

    def __init__(
        self,
        mesh: RaftMesh,
        me_id: str,
        cluster_id: str,
        addresses: Mapping[str, str],
        identity: Any,
        settings: Any,
        received: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__(None, None, [])
        life = current_life()
        assert life is not None
        self.life: Life = life
        self.me = me_id
        self._mesh = mesh
        self._peers: dict[str, Node] = {}
        self._introduced: set[str] = set()
        self.is_revoked: Callable[[str], bool] = lambda _: False
        self.farewell: Callable[[str], dict[str, Any] | None] = lambda _: None
        self._addresses = addresses
        self._received = received
        self._failed = failed
        self._connected: dict[str, int] = {}  # which connection
        life.at_end(self.destroy)

    async def start(self, listen: tuple[str, int]) -> None:
        self._mesh.enter(self)

    def destroy(self) -> None:
        self._mesh.leave(self)

    def addNode(self, node: Any) -> None:  # noqa: N802
        """Connect with one more voter."""
        self._peers[node.id] = node

    def dropNode(self, node: Any) -> None:  # noqa: N802
        """Part from a voter."""
        del self._peers[node.id]

    def introduce(self, others: Collection[str]) -> None:
        """Listen to just these, too."""
        self._introduced = set(others) - {self.me}

    def wants(self, peer: str) -> bool:
        """Whether a peer is one of the voters, or introduced."""
        return (peer in self._peers or peer in self._introduced) and not self.is_revoked(peer)

    def hear(self, peer: str, message: dict[str, Any]) -> None:
        """A word from whom this voter dialled, and who has no link with it."""
        self._onMessageReceived(Node(peer), message)
        self._received()

    def dials(self, peer: str) -> bool:
        """Whether the peer is where this voter looks for it."""
        address = self._addresses.get(peer, "").rpartition(":")[0]
        return self.wants(peer) and address == self._mesh.network.addresses[peer]

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        if node.id not in self._connected or node.id not in self._mesh.ends:
            return node.id in self._connected
        copied = {k: list(v) if isinstance(v, list) else v for k, v in message.items()}
        target = self._mesh.ends[node.id]
        epoch = self._connected[node.id]
        self._mesh.network.send(self.me, node.id, target.life, target.take, self.me, epoch, copied)
        return True

    def has_room(self, node: Any) -> bool:
        return self._mesh.network.chance(self.me, node.id).random() < 0.9

    def tells_time(self, node: Any) -> bool:
        return node.id in self._connected

    def take(self, source: str, epoch: int, message: dict[str, Any]) -> None:
        """A message has arrived; one of an older connection has not."""
        if self._connected.get(source) != epoch:
            return
        # Each copy of a repeated one is its own.
        taken = {k: list(v) if isinstance(v, list) else v for k, v in message.items()}
        try:
            self._onMessageReceived(Node(source), taken)
        except (OSError, LogDamaged) as error:
            self._failed(error)
        self._received()

    def note(self, peer: str, epoch: int) -> None:
        """A connection came, or, where it is negative, went."""
        if epoch > 0 and epoch == self._mesh.epoch(self.me, peer):
            if self._connected.pop(peer, 0):  # the peer has connected anew
                self._onNodeDisconnected(Node(peer))
            self._connected[peer] = epoch
            self._onNodeConnected(Node(peer))
        elif epoch < 0 and self._connected.get(peer) == -epoch:
            del self._connected[peer]
            self._onNodeDisconnected(Node(peer))
