"""What the agent of a voter is told, and when."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sappers.consensus.framing import FrameConnection
from sappers.consensus.outbox import Outbox
from sappers.consensus.replica import Replica
from sappers.consensus.snapshot import Worker, in_thread
from sappers.consensus.wire import (
    Committed,
    Done,
    LoadState,
    Standing,
    StateAge,
    decode_process_message,
)
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import decode_state, encode_state
from sappers.model.commands import Entry
from sappers.model.observation import RaftRole, RaftStatus

_LIMIT_BYTES = 4 * 2**20


class _Later(Worker):
    """Work beside the event loop, which is done when the test says so."""

    def __init__(self) -> None:
        self._work: list[Callable[[], None]] = []

    def begin(self, work: Callable[[], None]) -> Worker:
        self._work.append(work)
        return self

    def is_alive(self) -> bool:
        return bool(self._work)

    async def finish(self) -> None:
        work, self._work = self._work, []
        for one in work:
            one()
        await asyncio.sleep(0)


class _Agent:
    def __init__(self) -> None:
        self.heard: list[tuple[msgspec.Struct, ...]] = []
        self.news = asyncio.Event()
        self.replica = Replica()  # the voter's
        self.encoding = _Later()
        self.outbox = Outbox(
            self._hear, lambda: self.replica.state, self.encoding.begin, _LIMIT_BYTES
        )

    def commit(self, count: int, size: int = 1) -> None:
        for _ in range(count):
            entry = _entry(self.replica.state.index + 1, size)
            self.replica.advance([entry])
            self.outbox.add_entry(entry)

    def waiting_bytes(self) -> int:
        entries = sum(len(one.payload) for one in self.outbox._entries)
        return entries + sum(len(msgspec.msgpack.encode(one)) for one in self.outbox._messages)

    def _hear(self, *messages: msgspec.Struct) -> None:
        self.heard.append(messages)
        self.news.set()


def _entry(index: int, size: int = 1) -> Entry:
    return Entry(index, 1, b"x" * size)


async def test_entries_that_nobody_waits_for_gather_for_a_moment() -> None:
    agent = _Agent()
    agent.outbox.add_entry(_entry(1))
    agent.outbox.send_due(entries_awaited=False)
    assert agent.heard == [(Committed([_entry(1)]),)], "after a rest the first one goes at once"
    agent.news.clear()
    for index in (2, 3):
        agent.outbox.add_entry(_entry(index))
    agent.outbox._sent_at += 0.01  # however slow this machine is
    agent.outbox.send_due(entries_awaited=False)
    agent.outbox.send_due(entries_awaited=False)
    assert len(agent.heard) == 1
    await agent.news.wait()
    assert agent.heard[1:] == [(Committed([_entry(2), _entry(3)]),)]


async def test_what_is_told_beside_them_takes_entries_along() -> None:
    agent = _Agent()
    agent.outbox._sent_at = asyncio.get_running_loop().time() + 60.0
    agent.outbox.add_entry(_entry(1))
    agent.outbox.send_due(entries_awaited=False)
    agent.outbox.add(StateAge(0.0))
    agent.outbox.send_due(entries_awaited=False)
    assert agent.heard == [(Committed([_entry(1)]), StateAge(0.0))]
    agent.outbox.send_all()
    assert len(agent.heard) == 1, "nothing is said twice"


async def test_a_leaders_agent_is_told_at_once_and_of_much_in_parts() -> None:
    agent = _Agent()
    agent.outbox._sent_at = asyncio.get_running_loop().time() + 60.0
    many = [_entry(index, 2**19) for index in range(1, 6)]
    for one in many:
        agent.outbox.add_entry(one)
    agent.outbox.send_due(entries_awaited=True)
    assert agent.heard == [(Committed(many[:2]), Committed(many[2:4]), Committed(many[4:]))]


async def test_a_snapshot_takes_the_place_of_what_was_to_be_told() -> None:
    agent = _Agent()
    agent.outbox.add_entry(_entry(1))
    agent.outbox.replace_entries(b"state")
    agent.outbox.send_all()
    assert agent.heard == [(LoadState(b"state"),)]


def _index_of(heard: Iterable[tuple[msgspec.Struct, ...]]) -> int:
    """Where an agent stands that heard this; it must not miss an entry."""
    replica = Replica()
    for message in (one for many in heard for one in many):
        match message:
            case Committed(entries=entries):
                assert replica.advance(entries), "an entry is missing"
            case LoadState(snapshot=snapshot):
                assert snapshot is not None
                replica.replace(decode_state(snapshot))
            case Done(index=index):
                assert replica.state.index >= index, "an answer before its entry"
    return replica.state.index


async def test_what_waits_for_an_agent_that_hangs_is_bounded() -> None:
    agent = _Agent()
    agent.commit(3)
    agent.outbox.send_all()
    agent.outbox.hold()
    for _ in range(100):
        agent.commit(20, 2**14)
        agent.outbox.add(Standing(RaftStatus(RaftRole.FOLLOWER, 1, None, 1, 1, ("a",))))
        agent.outbox.add(StateAge(0.0))
        agent.outbox.send_due(entries_awaited=True)
        assert agent.waiting_bytes() <= _LIMIT_BYTES + 1000
    agent.outbox.add(Done(1, agent.replica.state.index, 1, ""))
    assert len(agent.heard) == 1, "it reads nothing"

    agent.outbox.release()
    agent.commit(2)
    agent.outbox.send_due(entries_awaited=True)
    assert len(agent.heard) == 1, "the state is not encoded yet, and comes first"
    await agent.encoding.finish()
    kinds = [type(one) for many in agent.heard[1:] for one in many]
    assert kinds == [LoadState, Committed, Standing, StateAge, Done]
    assert _index_of(agent.heard) == agent.replica.state.index


async def test_the_last_words_wait_for_nobody() -> None:
    for lacks in (False, True):
        agent = _Agent()
        agent.outbox.hold()
        agent.commit(9, 2**19 if lacks else 1)
        agent.outbox.add(Standing(RaftStatus(RaftRole.FOLLOWER, 1, None, 1, 1, ("a",))))
        agent.outbox.add(StateAge(1.0))  # of a state with those entries
        agent.outbox.add(Done(1, 10, 1, ""))
        agent.outbox.send_last()
        kinds = [type(one) for many in agent.heard for one in many]
        assert kinds == ([Standing] if lacks else [Committed, Standing, StateAge, Done])


async def test_who_reads_again_in_time_is_told_every_entry() -> None:
    agent = _Agent()
    agent.outbox.hold()
    agent.commit(10)
    agent.outbox.release()
    assert [type(one) for many in agent.heard for one in many] == [Committed]
    assert not agent.encoding.is_alive()


_STEPS = st.lists(
    st.sampled_from(("commit", "much", "tell", "hold", "release", "encoded", "taken over", "ask")),
    max_size=40,
)


@given(_STEPS)
def test_however_it_hangs_nothing_is_missing_in_the_end(steps: list[str]) -> None:
    async def run() -> None:
        agent = _Agent()
        is_held = False
        for step in [*steps, "release", "encoded", "encoded"]:
            match step:
                case "commit":
                    agent.commit(2)
                case "much":
                    agent.commit(9, 2**19)
                case "tell":
                    agent.outbox.send_due(entries_awaited=True)
                case "ask":
                    agent.outbox.add(Done(1, agent.replica.state.index, 1, ""))
                case "hold" | "release" if is_held == (step == "release"):
                    is_held = not is_held
                    (agent.outbox.hold if is_held else agent.outbox.release)()
                case "encoded":
                    await agent.encoding.finish()
                case "taken over":
                    now = agent.replica.state
                    further = ClusterState(index=now.index + 100, term=now.term)
                    agent.replica.replace(further)
                    agent.outbox.replace_entries(encode_state(further))
            assert not is_held or agent.waiting_bytes() <= 2 * _LIMIT_BYTES
        agent.outbox.send_all()
        assert _index_of(agent.heard) == agent.replica.state.index

    asyncio.run(run())


async def test_a_stopped_agent_holds_little_of_its_voters_memory() -> None:
    """With a real socket between the two."""
    mine, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    state, heard, held = Replica(), list[msgspec.Struct](), asyncio.Event()
    outbox: Outbox

    def hold() -> None:
        held.set()
        outbox.hold()

    voter = FrameConnection(
        2**30, lambda _: None, lambda: None, hold=hold, release=lambda: outbox.release()
    )
    outbox = Outbox(voter.send, lambda: state.state, in_thread, _LIMIT_BYTES)
    transport, _ = await loop.create_unix_connection(lambda: voter, sock=mine)
    for index in range(2, 400):
        entry = _entry(index, 2**18)
        state.advance([entry])
        outbox.add_entry(entry)
        outbox.send_due(entries_awaited=True)
    await held.wait()
    waiting = transport.get_write_buffer_size() + sum(len(e.payload) for e in outbox._entries)
    assert waiting < 2 * _LIMIT_BYTES, "of 100 MB"

    whole = asyncio.Event()

    def hear(body: bytes) -> None:
        heard.append(decode_process_message(body))
        if isinstance(heard[-1], LoadState):
            whole.set()

    agent = FrameConnection(2**30, hear, lambda: None)
    await loop.create_unix_connection(lambda: agent, sock=theirs)
    await whole.wait()
    assert _index_of([tuple(heard)]) == 399
    voter.close()
    agent.close()
