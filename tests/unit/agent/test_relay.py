from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from sappers.agent.hub.relay import Follower, Heartbeat, Publisher
from sappers.errors import ApiError
from sappers.model import subjects
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Entry, NoOperation, PutWorkload
from sappers.model.member import MemberState
from sappers.model.observation import RaftRole, RaftStatus
from sappers.model.view import MemberHealth
from sappers.security.messages import MessageSigner
from tests.identities import make_cluster_identities
from tests.unit.clocks import FixedClock
from tests.unit.worlds import commit, founded, member, workload
from tests.waiting import eventually


@pytest.fixture(autouse=True, scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> None:
    names = ["m1", "m2", "m3", "m4", "m9"]
    made = make_cluster_identities(tmp_path_factory.mktemp("identities"), names)
    MESSAGES.update({name: MessageSigner(identity) for name, identity in made.items()})


MESSAGES: dict[str, MessageSigner] = {}


def said(by: str, what: Entry | Heartbeat) -> tuple[str, bytes]:
    """What the hub brings when a member says it."""
    if isinstance(what, Entry):
        subject, body = subjects.ENTRIES, msgspec.msgpack.encode(what)
    else:
        subject, body = subjects.HEARTBEAT, msgspec.json.encode(what)
    return subject, MESSAGES[by].sign(subject, body)


class FakeHub:
    connected = True

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    async def publish(self, subject: str, payload: bytes) -> None:
        self.sent.append((subject, payload))


class FakeLog:
    """A log whose role and entries the test sets."""

    def __init__(self, state: ClusterState, role: RaftRole) -> None:
        self.now = state
        self.role = role
        self.entries: list[Entry] | None = []  # None: compacted away
        self.heard_of: list[tuple[int, int, str | None]] = []
        self.as_of: list[float | None] = []
        self.age: float | None = None
        self.fed: list[Entry] = []

    def state(self) -> ClusterState:
        return self.now

    def status(self) -> RaftStatus:
        return RaftStatus(self.role, 3, "m1", self.now.index, self.now.index)

    def entries_after(self, index: int, limit: int) -> list[Entry] | None:
        if self.entries is None:
            return None
        return [entry for entry in self.entries if entry.index > index][:limit]

    async def feed(self, entry: Entry) -> None:
        self.fed.append(entry)

    def state_age(self) -> float | None:
        return self.age

    async def heard(
        self, index: int, term: int, leader_id: str | None, as_of: float | None = None
    ) -> None:
        self.heard_of.append((index, term, leader_id))
        self.as_of.append(as_of)


class FakePeers:
    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def call(self, member, method, path, *, body=None, timeout_seconds) -> bytes:
        self.asked.append(member.id)
        answer = self.answers.get(member.id, ApiError("down"))
        if isinstance(answer, ApiError):
            raise answer
        return answer


def health_of(member_id: str, leader_id: str | None, snapshot_index: int = 0) -> bytes:
    health = MemberHealth(member_id, "n", "v", "c1", "follower", 4, leader_id, 9, 9, "-", True)
    return msgspec.json.encode(msgspec.structs.replace(health, snapshot_index=snapshot_index))


async def test_only_a_leader_publishes_and_only_what_is_new() -> None:
    hub = FakeHub()
    publisher = Publisher(hub, MESSAGES["m1"], FixedClock())
    log = FakeLog(founded(), RaftRole.FOLLOWER)
    await publisher.publish_news(log, "m1")
    assert hub.sent == []
    log.role = RaftRole.LEADER
    log.now, _ = commit(log.now, PutWorkload(workload()))
    log.entries = [Entry(log.now.index, 3, b"payload")]
    await publisher.publish_news(log, "m1")
    assert [subject for subject, _ in hub.sent] == [
        subjects.ENTRIES,
        "sappers.events.workload.created",
        subjects.HEARTBEAT,
    ]
    hub.sent.clear()
    await publisher.publish_news(log, "m1")
    assert hub.sent == []


async def test_who_leads_after_a_snapshot_took_its_entries_publishes_what_comes_then() -> None:
    hub = FakeHub()
    publisher = Publisher(hub, MESSAGES["m1"], FixedClock())
    log = FakeLog(founded(), RaftRole.LEADER)
    log.entries = None
    await publisher.publish_news(log, "m1")
    assert [subject for subject, _ in hub.sent] == [subjects.HEARTBEAT]
    hub.sent.clear()
    log.now, _ = commit(log.now, PutWorkload(workload()))
    log.entries = [Entry(log.now.index, 3, b"payload")]
    await publisher.publish_news(log, "m1")
    assert hub.sent[0][0] == subjects.ENTRIES


async def test_entries_and_heartbeats_reach_the_following_log_and_garbage_does_not() -> None:
    log = FakeLog(ClusterState(), RaftRole.NONE)
    follower = Follower("m9", FakePeers({}), lambda: [member(1, has_vote=True)], MESSAGES["m9"])
    follower.follow(log)
    entry = Entry(5, 1, b"payload")
    await follower.receive(*said("m1", entry))
    await follower.receive(*said("m1", Heartbeat(5, 1, "m1")))
    await follower.receive(subjects.ENTRIES, b"\xff\xff")
    await follower.receive(subjects.HEARTBEAT, b"nonsense")
    no_text = MESSAGES["m1"].sign(subjects.HEARTBEAT, b'{"leader_id": "\xff"}')
    await follower.receive(subjects.HEARTBEAT, no_text)
    assert log.fed == [entry]
    assert log.heard_of == [(5, 1, "m1")]


async def test_without_a_heartbeat_voters_are_asked_until_one_knows_a_leader() -> None:
    voters = [member(n, has_vote=True) for n in (1, 2, 3)]
    peers = FakePeers({"m2": health_of("m2", None), "m3": health_of("m3", "m2")})
    log = FakeLog(ClusterState(), RaftRole.NONE)
    follower = Follower("m9", peers, lambda: [*voters, member(4)], MESSAGES["m9"])
    follower.follow(log)
    follower._heard_at = float("-inf")
    await follower.ask_voters()
    assert peers.asked == ["m1", "m2", "m3"]
    assert log.heard_of == [(9, 4, "m2")]


async def test_the_newest_snapshot_is_fetched_and_an_older_one_where_that_voter_is_gone() -> None:
    voters = [member(n, has_vote=True) for n in (1, 2, 3)]
    peers = FakePeers({"m1": health_of("m1", "m1", 5), "m3": health_of("m3", "m1", 7)})
    follower = Follower("m9", peers, lambda: voters, MESSAGES["m9"])
    assert await follower.fetch_snapshot() == peers.answers["m3"]
    assert peers.asked == ["m1", "m2", "m3", "m3"]
    del peers.answers["m3"]
    assert await follower.fetch_snapshot() == peers.answers["m1"]


async def test_a_leader_that_no_voter_knows_is_forgotten_and_what_is_committed_is_not() -> None:
    log = FakeLog(ClusterState(), RaftRole.NONE)
    follower = Follower(
        "m9",
        FakePeers({"m2": health_of("m2", None)}),
        lambda: [member(n, has_vote=True) for n in (1, 2)],
        MESSAGES["m9"],
    )
    follower.follow(log)
    await follower.receive(*said("m1", Heartbeat(5, 3, "m1")))
    await follower.ask_voters()
    assert log.heard_of == [(5, 3, "m1")]
    follower._heard_at = float("-inf")
    await follower.ask_voters()
    assert log.heard_of[1:] == [(9, 3, None)]


async def test_a_leader_says_how_old_its_state_is_and_what_its_clock_shows() -> None:
    hub, clock = FakeHub(), FixedClock(50.0)
    log = FakeLog(founded(), RaftRole.LEADER)
    log.age = 0.25
    await Publisher(hub, MESSAGES["m1"], clock).publish_news(log, "m1")
    ((_, message),) = hub.sent
    _, body = MESSAGES["m9"].open(subjects.HEARTBEAT, message)
    beat = msgspec.json.decode(body, type=Heartbeat)
    assert (beat.index, beat.age, beat.clock) == (log.now.index, 0.25, 50.0)


async def test_a_heartbeat_that_is_read_late_is_as_old_as_when_its_leader_said_it() -> None:
    log = FakeLog(ClusterState(), RaftRole.NONE)
    told = msgspec.json.decode(health_of("m1", "m1"), type=MemberHealth)
    answer = msgspec.structs.replace(told, term=3, clock=5000.0, state_age=0.1)
    peers = FakePeers({"m1": msgspec.json.encode(answer)})
    voters = [member(1, has_vote=True), member(2, has_vote=True)]
    follower = Follower("m9", peers, lambda: voters, MESSAGES["m9"])
    follower.follow(log)
    reading = asyncio.create_task(follower.read_clocks())
    await follower.receive(*said("m1", Heartbeat(5, 3, "m1", age=0.2, clock=4999.0)))
    assert log.as_of == [None], "its clock was not read yet"
    await eventually(lambda: follower._reading)
    assert peers.asked == ["m1"]
    now = asyncio.get_running_loop().time()
    await follower.receive(*said("m1", Heartbeat(5, 3, "m1", age=0.2, clock=4990.0)))
    assert log.as_of[-1] is not None
    assert log.as_of[-1] <= now - 10.2, "it was said 10 s before the clock was read"
    await follower.receive(*said("m1", Heartbeat(5, 4, "m1", age=0.2, clock=5000.0)))
    assert log.as_of[-1] is None, "in another term its host may have been started anew"
    await follower.receive(*said("m1", Heartbeat(5, 3, "m1", age=None, clock=5000.0)))
    assert log.as_of[-1] is None
    reading.cancel()


async def test_what_a_voter_answers_is_as_old_as_when_it_was_asked() -> None:
    log = FakeLog(ClusterState(), RaftRole.NONE)
    told = msgspec.json.decode(health_of("m2", "m1"), type=MemberHealth)
    peers = FakePeers({"m2": msgspec.json.encode(msgspec.structs.replace(told, state_age=4.0))})
    follower = Follower("m9", peers, lambda: [member(2, has_vote=True)], MESSAGES["m9"])
    follower.follow(log)
    follower._heard_at = float("-inf")
    await follower.ask_voters()
    assert log.as_of[0] is not None
    assert log.as_of[0] <= asyncio.get_running_loop().time() - 4.0


@pytest.mark.parametrize("leader_id", ["m2", None])
async def test_a_member_that_becomes_a_voter_while_it_asks_follows_no_more(
    leader_id: str | None,
) -> None:
    log = FakeLog(ClusterState(), RaftRole.NONE)

    class Inviting(FakePeers):
        async def call(self, member, method, path, *, body=None, timeout_seconds) -> bytes:
            follower.follow(None)
            return await super().call(
                member, method, path, body=body, timeout_seconds=timeout_seconds
            )

    peers = Inviting({"m1": health_of("m1", leader_id)})
    follower = Follower(
        "m9", peers, lambda: [member(n, has_vote=True) for n in (1, 2)], MESSAGES["m9"]
    )
    follower.follow(log)
    follower._heard_at = float("-inf")
    await follower.ask_voters()
    assert log.heard_of == []


async def test_compacted_entries_are_told_from_unreachable_voters() -> None:
    voter = member(1, has_vote=True)
    follower = Follower(
        "m9", FakePeers({"m1": ApiError("compacted", status=410)}), lambda: [voter], MESSAGES["m9"]
    )
    assert await follower.fetch_entries(3, 1) is None
    same, *entries = [Entry(3, 1, b""), Entry(4, 1, b"x")]
    follower = Follower(
        "m9",
        FakePeers({"m1": msgspec.msgpack.encode([same, *entries])}),
        lambda: [voter],
        MESSAGES["m9"],
    )
    assert await follower.fetch_entries(3, 1) == entries


@pytest.mark.parametrize("first", [ApiError("compacted", status=410), msgspec.msgpack.encode([])])
async def test_entries_that_one_voter_does_not_have_another_may(first: Any) -> None:
    same, *entries = [Entry(3, 1, b""), Entry(4, 1, b"x")]
    peers = FakePeers({"m1": first, "m2": msgspec.msgpack.encode([same, *entries])})
    voters = [member(n, has_vote=True) for n in (1, 2)]
    follower = Follower("m9", peers, lambda: voters, MESSAGES["m9"])
    assert await follower.fetch_entries(3, 1) == entries


async def test_entries_are_compacted_away_where_no_voter_has_any_that_are_new() -> None:
    gone = ApiError("compacted", status=410)
    peers = FakePeers({"m1": gone, "m2": msgspec.msgpack.encode([])})
    voters = [member(n, has_vote=True) for n in (1, 2, 3)]
    follower = Follower("m9", peers, lambda: voters, MESSAGES["m9"])
    assert await follower.fetch_entries(3, 1) is None


async def test_a_voter_with_another_entry_in_the_place_of_the_newest_has_given_that_up() -> None:
    theirs = msgspec.msgpack.encode([Entry(3, 2, b""), Entry(4, 2, b"x")])
    peers = FakePeers({"m1": theirs, "m2": msgspec.msgpack.encode([])})
    voters = [member(n, has_vote=True) for n in (1, 2)]
    follower = Follower("m9", peers, lambda: voters, MESSAGES["m9"])
    assert await follower.fetch_entries(3, 1) is None


def revoked_state() -> ClusterState:
    state = msgspec.structs.replace(founded(3), electorate=("m1", "m2"))
    return msgspec.structs.replace(state, revoked=state.revoked.set("m3", 1.0))


async def test_who_is_revoked_is_neither_asked_nor_believed_whatever_gossip_says() -> None:
    everybody = [member(n, has_vote=True) for n in (3, 4, 2, 1)]
    peers = FakePeers({"m1": health_of("m1", "m3"), "m2": health_of("m2", "m1")})
    log = FakeLog(revoked_state(), RaftRole.NONE)
    follower = Follower("m9", peers, lambda: everybody, MESSAGES["m9"])
    follower.follow(log)
    assert [voter.id for voter in follower.voters()] == ["m1", "m2"]
    for forger in ("m3", "m4"):
        for claimed in (forger, "m1"):
            await follower.receive(*said(forger, Heartbeat(2**60, 2**60, claimed)))
        await follower.receive(*said(forger, Entry(log.now.index + 1, 1, b"forged")))
    beat = Heartbeat(2**60, 2**60, "m1")
    await follower.receive(subjects.HEARTBEAT, msgspec.json.encode(beat))
    await follower.receive(*said("m2", beat))
    await follower.receive(subjects.ENTRIES, said("m1", beat)[1])
    assert log.heard_of == []
    assert log.fed == []
    follower._heard_at = float("-inf")
    await follower.ask_voters()
    assert log.heard_of == [(9, 4, "m1")], "m1 does not know yet that m3 is revoked"


async def test_a_leader_that_the_state_does_not_know_makes_it_ask_and_forget_nothing() -> None:
    log = FakeLog(revoked_state(), RaftRole.NONE)
    peers = FakePeers({})
    follower = Follower("m9", peers, lambda: [member(n) for n in (1, 2)], MESSAGES["m9"])
    follower.follow(log)
    await follower.receive(*said("m1", Heartbeat(5, 3, "m1")))
    await follower.receive(*said("m3", Heartbeat(6, 4, "m3")))
    await follower.ask_voters()
    assert peers.asked == [], "m3 is revoked"
    await follower.receive(*said("m4", Heartbeat(6, 4, "m4")))
    await follower.ask_voters()
    assert peers.asked == ["m1", "m2"]
    assert log.heard_of == [(5, 3, "m1")], "m1 is not silent"
    peers.answers["m2"] = health_of("m2", "m4")
    await follower.receive(*said("m4", Heartbeat(6, 4, "m4")))
    await follower.ask_voters()
    assert log.heard_of[1:] == [(9, 4, "m4")]


async def test_one_that_had_a_vote_when_it_knew_last_asks_the_others_and_not_itself() -> None:
    """Itself it would answer that there is nothing new."""
    everybody = [member(1), member(2, has_vote=True), member(3, has_vote=True)]
    entries = msgspec.msgpack.encode([Entry(3, 1, b""), Entry(4, 1, b"x")])
    peers = FakePeers({"m1": msgspec.msgpack.encode([]), "m2": entries})
    follower = Follower("m1", peers, lambda: everybody, MESSAGES["m1"])
    follower.follow(FakeLog(founded(3), RaftRole.NONE))
    await follower.fetch_entries(3, 1)
    assert peers.asked == ["m2"]


@pytest.mark.parametrize("state", [MemberState.DEAD, MemberState.ALIVE])
async def test_where_no_voter_of_the_state_votes_gossip_says_who_does_now(
    state: MemberState,
) -> None:
    dead = [member(n, state=state) for n in (1, 2)]
    others = [member(n, has_vote=True) for n in (3, 4)]
    follower = Follower("m9", FakePeers({}), lambda: [*dead, *others], MESSAGES["m9"])
    follower.follow(FakeLog(revoked_state(), RaftRole.NONE))
    assert [voter.id for voter in follower.voters()] == ["m4", "m1", "m2"]


def test_the_no_operation_changes_nothing() -> None:
    before = founded()
    after, outcome = commit(before, NoOperation())
    assert outcome.refused == ""
    assert after.members == before.members
