"""Messages: the hub's servers, a client of theirs, durable streams, and who may say what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from sappers.model.actions import RunHubServer
from sappers.model.durable import KeptMessage, StoredMessage, StreamReading
from sappers.model.guest_scope import GuestScope
from sappers.model.hub import HubAction, HubReading
from sappers.model.member import Member
from sappers.model.observation import HealthPush
from sappers.model.repair import RepairKey, RepairLogin


class HubServer(Protocol):
    """This member's nats-server, when it has one (`hub/`)."""

    async def run(self, wanted: RunHubServer) -> None:
        """Make the server run as is wanted; nothing to do if it does already.

        Raises:
            HubError: This member is not among the servers, a newer term spoke already, or the
                server does not start; carries the end of its log.
        """

    async def stop(self) -> None:
        """Make it run no more."""

    async def running_with(self) -> tuple[str, ...] | None:
        """Member ids that it runs with, or None when it does not run."""


class HubViolations(Protocol):
    """What this member's nats-server refused to whom (`hub/`)."""

    def new(self) -> Mapping[str, int]:
        """Since the last call, by the public key of the user; at least so many."""


Received = Callable[[str, bytes], Awaitable[None]]

Unsubscribe = Callable[[], None]

# (subject, payload, reply subject) -> what to answer; None for nothing.
Answer = Callable[[str, bytes, str], Awaitable[bytes | None]]

# (reply subject, how many of this subscription are under way) -> what to answer; None for nothing.
Busy = Callable[[str, int], bytes | None]


class HubClient(Protocol):
    """A client of the hub that reconnects for ever (`hub/`)."""

    async def connect(self, servers: Sequence[Member]) -> None:
        """Use just these servers from now on; returns at once, connects in the background."""

    @property
    def connected(self) -> bool:
        """Whether messages flow."""

    async def publish(self, subject: str, payload: bytes) -> None:
        """Send; dropped with a debug log while not connected (state is the truth)."""

    async def subscribe(
        self,
        subject: str,
        received: Received,
        *,
        waiting_max: int = 0,
        dropped: Callable[[], None] | None = None,
    ) -> Unsubscribe:
        """Call `received(subject, payload)` for each message, over reconnects too.

        Args:
            subject: May have wildcards.
            received: One message after the other.
            waiting_max: Messages that may wait for it; 0 is the client's own bound.
            dropped: Called for each message for which there is no room.

        Returns:
            What ends it.
        """

    async def serve(
        self,
        subject: str,
        queue: str,
        answer: Answer,
        *,
        at_once: int = 0,
        busy: Busy | None = None,
        waiting_max: int = 0,
        dropped: Callable[[], None] | None = None,
    ) -> Unsubscribe:
        """Answer requests, over reconnects too; one of those with the same queue gets each.

        Args:
            subject: May have wildcards.
            queue: Of those that serve with the same one, one gets each request.
            answer: Many at a time.
            at_once: How many; 0 is the client's own bound, which holds for all that it serves.
            busy: What answers the requests beyond; they are dropped without it.
            waiting_max: As in `subscribe`.
            dropped: As in `subscribe`.

        Returns:
            What ends it.
        """

    async def close(self) -> None:
        """Flush and end."""


class DurableStreams(Protocol):
    """Durable messages, one stream a workload (`hub/`)."""

    async def streams(self) -> Mapping[str, StreamReading]:
        """Every workload's stream, by workload.

        Raises:
            HubError: The hub does not say, or keeps no streams at all.
        """

    async def keep(self, workload: str, replicas: int) -> None:
        """Make a workload's stream, or make it as it should be.

        Raises:
            HubError: The hub refuses, or does not answer.
        """

    async def remove(self, workload: str) -> None:
        """Remove a workload's stream and all that is in it; nothing where there is none.

        Raises:
            HubError: The hub refuses, or does not answer.
        """

    async def store(
        self, workload: str, name: str, payload: bytes, message_id: str
    ) -> StoredMessage:
        """Keep a message; returns once most of its stream's servers have it on their disks.

        Raises:
            StreamFull: The stream takes no more.
            HubError: The hub does not answer; it may or may not have been kept.
        """

    async def fetch(
        self, workload: str, count: int, wait_seconds: float
    ) -> tuple[KeptMessage, ...]:
        """Messages that wait, at most `count`; none when none came in time.

        Raises:
            HubError: The hub does not answer.
        """

    async def settle(self, workload: str, token: str, *, again: bool) -> None:
        """Have a message forgotten, or delivered again.

        Raises:
            TokenRefused: The token is none of this workload's.
            HubError: The hub does not answer.
        """


class HubServers(Protocol):
    """The hub's servers, as far as durable messages go (`hub/`)."""

    async def read(self, servers: Sequence[Member]) -> HubReading:
        """Where durable messages are.

        Raises:
            HubError: The hub does not say.
        """

    async def act(self, action: HubAction, servers: Sequence[Member]) -> None:
        """Have it done, or begun; what has come of it is in the next reading.

        Raises:
            HubError: The hub refuses, or does not answer.
        """


class GuestCredentials(Protocol):
    """Mints what a guest shows to the hub (`hub/`)."""

    def mint(self, scope: GuestScope, expires_at: float) -> str:
        """A NATS credentials file for what the guest may say and hear, until then (Unix time)."""

    def stale_before(self) -> float:
        """Unix time: guests' credentials that were made before soon end, and are made anew."""

    def operator(self) -> str:
        """A credentials file for a person: hears everything, says nothing."""

    def holder(self, user: str) -> str | None:
        """Whom this member made the credentials of a user (a public key) for, if it did."""


class SignedMessages(Protocol):
    """Proves which member said what the hub brings (`security/`)."""

    def sign(self, subject: str, body: bytes) -> bytes:
        """The message that says a body under a subject."""

    def open(self, subject: str, message: bytes) -> tuple[str, bytes]:
        """The member that said it, and what.

        Raises:
            IdentityError: It is no message, or no member of the cluster signed it for this subject.
        """


class RepairSigner(Protocol):
    """Signs what healers log in to hosts with (`security/`)."""

    def sign(
        self,
        key: RepairKey,
        public_key: str,
        *,
        member_id: str,
        key_id: str,
        now: float,
        until: float,
    ) -> str:
        """An SSH user certificate of a public key, for one member's host, until a Unix time.

        Raises:
            IdentityError: The cluster's key cannot be opened here, what it says of images is not
                signed by it, or the public key is none.
        """

    def check(self, key: RepairKey, logins: Sequence[RepairLogin]) -> None:
        """Whether the cluster's authority has itself said what stands there.

        Raises:
            IdentityError: The key cannot be opened here, or something is not signed by it.
        """


class HealthInbox(Protocol):
    """The last health push of each guest on this member (`agent/`)."""

    def last(self) -> Mapping[str, HealthPush]:
        """By allocation id."""
