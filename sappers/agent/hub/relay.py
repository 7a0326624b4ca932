"""The relay between the log and the hub: the leader publishes, members without a vote follow.

The hub only makes it quick, and does not prove who speaks: the leader signs what it says, and only
what a voter signed is heard. What the hub loses is found by the heartbeat's index, or
without a hub by asking a voter, and fetched over the HTTP API.

A heartbeat says how old the leader's state is, and what the leader's clock shows: who has asked it
once for its clock knows when that was, however late the heartbeat comes.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Sequence

import msgspec
import structlog

from sappers.agent.hub.health_call import health_of
from sappers.decisions.ages import ClockReading
from sappers.errors import ApiError, IdentityError
from sappers.model import subjects
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Entry
from sappers.model.event import after_index, event_line
from sappers.model.known_types import UNREADABLE
from sappers.model.member import Member, MemberState
from sappers.model.observation import RaftRole
from sappers.ports import Clock, FollowingLog, HubClient, PeerClient, ReplicatedLog, SignedMessages

HEARTBEAT_SECONDS = 1.0
ENTRIES_AT_ONCE = 500
CALL_TIMEOUT_SECONDS = 5.0
_READINGS_A_SECOND = 500.0  # of a leader's clock, by all members together, where all need one

log = structlog.get_logger(__name__)


class Heartbeat(msgspec.Struct, frozen=True):
    """The leader's word of how far the log is.

    Attributes:
        age: Of its state, in seconds; None where it does not know.
        clock: What its clock, which nobody sets, showed then.
    """

    index: int
    term: int
    leader_id: str
    age: float | None = None
    clock: float = 0.0


class Publisher:
    """Publishes, while this member leads, each entry it applies, the events, and a heartbeat."""

    def __init__(self, hub: HubClient, messages: SignedMessages, clock: Clock) -> None:
        self._hub = hub
        self._messages = messages
        self._clock = clock
        self._published_index = 0
        self._heartbeat_due = 0.0

    async def publish_news(self, replicated: ReplicatedLog, member_id: str) -> None:
        """Publish what was applied since the last call; nothing where this member only follows."""
        status = replicated.status()
        state = replicated.state()
        if status.role is not RaftRole.LEADER:
            self._published_index = state.index
            return
        news = replicated.entries_after(self._published_index, ENTRIES_AT_ONCE)
        if news is None:
            # A snapshot took their place before this member led; who follows fetches them.
            news, self._published_index = (), state.index
        now = asyncio.get_running_loop().time()
        if not news and now < self._heartbeat_due:
            return
        beat = Heartbeat(
            state.index, status.term, member_id, replicated.state_age(), self._clock.monotonic()
        )
        before = self._published_index
        for entry in news:
            await self._say(subjects.ENTRIES, msgspec.msgpack.encode(entry))
            self._published_index = entry.index
        for event in after_index(state.events, before):
            if event.index <= self._published_index:
                await self._hub.publish(subjects.event(event.kind), event_line(event))
        self._heartbeat_due = now + HEARTBEAT_SECONDS
        await self._say(subjects.HEARTBEAT, msgspec.json.encode(beat))

    async def _say(self, subject: str, body: bytes) -> None:
        await self._hub.publish(subject, self._messages.sign(subject, body))


class Follower:
    """Keeps a following log as new as the cluster, by the hub, or by asking voters without it."""

    def __init__(
        self,
        me_id: str,
        peers: PeerClient,
        members: Callable[[], Sequence[Member]],
        messages: SignedMessages,
    ) -> None:
        self._me_id = me_id
        self._peers = peers
        self._messages = messages
        self._members = members
        self._following: FollowingLog | None = None
        self._heard_at = 0.0
        self._has_hint = False
        self._reading: ClockReading | None = None
        self._reading_due = asyncio.Event()

    def follow(self, following: FollowingLog | None) -> None:
        """Feed this log from now on; None once the member votes."""
        self._following = following

    async def receive(self, subject: str, payload: bytes) -> None:
        """Take one message of the log's subjects.

        What cannot be read, and what no member signed, is dropped and logged.
        """
        if self._following is None:
            return
        try:
            sender, body = self._messages.open(subject, payload)
            if not self._is_voter(sender):
                # One that the state does not know yet may lead: voters know.
                self._has_hint = sender not in self._state().revoked
            elif subject == subjects.ENTRIES:
                await self._following.feed(msgspec.msgpack.decode(body, type=Entry))
            elif (beat := msgspec.json.decode(body, type=Heartbeat)).leader_id == sender:
                self._heard_at = asyncio.get_running_loop().time()
                await self._hear(self._following, beat)
        except (IdentityError, *UNREADABLE) as error:
            log.warning("dropped a message", subject=subject, error=str(error))

    async def _hear(self, following: FollowingLog, beat: Heartbeat) -> None:
        reading = self._reading
        if reading is None or (reading.leader_id, reading.term) != (beat.leader_id, beat.term):
            reading = None
        now = asyncio.get_running_loop().time()
        if reading is None or reading.is_due(now, len(self._state().members)):
            self._reading_due.set()
        as_of = None
        if reading is not None and beat.age is not None:
            as_of = min(reading.said_at(beat.clock), now) - beat.age
        await following.heard(beat.index, beat.term, beat.leader_id, as_of)

    async def read_clocks(self) -> None:
        """Ask whoever leads for its clock when it is due, not all members at once; for ever."""
        share = zlib.crc32(self._me_id.encode()) / 2**32
        while True:
            await self._reading_due.wait()
            await asyncio.sleep(share * len(self._state().members) / _READINGS_A_SECOND)
            await self._read_clock()
            self._reading_due.clear()  # the next heartbeat says so again where nobody answered

    async def _read_clock(self) -> None:
        leader_id = self._following and self._following.status().leader_id
        for voter in self.voters():
            if voter.id == leader_id:
                asked_at = asyncio.get_running_loop().time()
                health = await health_of(self._peers, voter, CALL_TIMEOUT_SECONDS)
                if health is not None and health.leader_id == leader_id:
                    self._reading = ClockReading(leader_id, health.term, health.clock, asked_at)

    async def ask_voters(self) -> None:
        """Without a heartbeat for a while, or on a hint, ask voters who leads and how far."""
        following = self._following
        if following is None:
            return
        heard_at = self._heard_at
        is_silent = asyncio.get_running_loop().time() - heard_at >= 3 * HEARTBEAT_SECONDS
        if not is_silent and not self._has_hint:
            return
        self._has_hint = False
        committed = 0
        for voter in self.voters():
            asked_at = asyncio.get_running_loop().time()
            health = await health_of(self._peers, voter, CALL_TIMEOUT_SECONDS)
            if health is None:
                continue
            if self._following is not following:
                return  # this member has become a voter meanwhile
            if health.leader_id is not None and health.leader_id not in self._state().revoked:
                as_of = None if health.state_age is None else asked_at - health.state_age
                await following.heard(health.commit_index, health.term, health.leader_id, as_of)
                return
            committed = max(committed, health.commit_index)
        if self._following is not following:
            return
        told = following.status()
        has_news = told.leader_id is not None or committed > told.commit_index
        if is_silent and has_news and heard_at == self._heard_at:
            # The leader is silent, and no voter that answers knows of one. What is committed stays
            # so: perhaps that this member votes, and nobody leads because it does not yet.
            await following.heard(max(committed, told.commit_index), told.term, None)

    async def fetch_snapshot(self) -> bytes:
        """The newest snapshot that a voter which answers, and is ahead of this member, has on disk.

        Ahead is, too, who votes in a later term: after `raft recover` perhaps at a lower index.

        Raises:
            ApiError: No voter answers.
        """
        voters, index = self.voters(), self._state().index
        healths = await asyncio.gather(
            *(health_of(self._peers, voter, CALL_TIMEOUT_SECONDS) for voter in voters)
        )
        newest = {
            voter.id: (
                health.role != RaftRole.NONE,
                health.term,
                health.applied_index > index,
                health.snapshot_index,
            )
            for voter, health in zip(voters, healths, strict=True)
            if health is not None
        }
        ordered = sorted(voters, key=lambda voter: newest.get(voter.id, _SILENT), reverse=True)
        failure = _no_voter()
        for voter in ordered:
            try:
                return await self._ask(voter, "/v1/snapshot")
            except ApiError as error:
                failure = error
        raise failure

    async def fetch_entries(self, after: int, term: int) -> list[Entry] | None:
        """Committed entries that follow one; None where a snapshot must take their place.

        They are compacted away then, or at that index is another entry: `raft recover` gave up
        what this member has. One voter may keep more of them than another, or be no further than
        this member.

        Args:
            after, term: Of this member's newest entry.

        Raises:
            ApiError: No voter answers.
        """
        failure, gone, nothing_new = _no_voter(), False, False
        path = f"/v1/log?after={after - 1}&limit={ENTRIES_AT_ONCE}"
        for voter in self.voters():
            try:
                answer = await self._ask(voter, path)
            except ApiError as error:
                failure, gone = error, gone or error.status == 410
                continue
            entries = msgspec.msgpack.decode(answer, type=list[Entry])
            if entries and (entries[0].index, entries[0].term) != (after, term):
                gone = True
            elif entries[1:]:
                return entries[1:]
            else:
                nothing_new = True
        if gone:
            return None
        if nothing_new:
            return []
        raise failure

    def voters(self) -> list[Member]:
        """The committed electorate without this member and who is revoked, the alive first.

        Gossip says where they are. Whom else it says to vote counts only where none of these lives
        and votes by its own word: after a long absence all voters may be others, and those
        of then as far behind as this member.
        """
        state = self._state()
        # By its own old state this member may have a vote still; of itself it hears nothing new.
        shut_out = {*state.revoked, self._me_id}
        heard = {one.id: one for one in self._members() if one.id not in shut_out}
        known = {**state.members, **heard}
        electorate = [one for one in state.electorate if one not in shut_out]
        voters = {one: known[one] for one in electorate if one in known}
        if not any(one.has_vote and one.state is MemberState.ALIVE for one in voters.values()):
            voters |= {one.id: one for one in heard.values() if one.has_vote}
        return sorted(
            voters.values(),
            key=lambda one: (one.state is not MemberState.ALIVE, not one.has_vote, one.id),
        )

    def _state(self) -> ClusterState:
        return ClusterState() if self._following is None else self._following.state()

    def _is_voter(self, member_id: str) -> bool:
        state = self._state()
        if member_id in state.electorate:  # for each message; the rest is seldom
            return member_id not in state.revoked
        return any(voter.id == member_id for voter in self.voters())

    async def _ask(self, voter: Member, path: str) -> bytes:
        return await self._peers.call(voter, "GET", path, timeout_seconds=CALL_TIMEOUT_SECONDS)


_SILENT = (False, -1, False, -1)


def _no_voter() -> ApiError:
    return ApiError("no voter is known", hint="is the cluster founded, and gossip open?")
