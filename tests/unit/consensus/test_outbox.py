"""What the agent of a voter is told, and when."""

from __future__ import annotations

import asyncio

import msgspec

from sappers.consensus.outbox import Outbox
from sappers.consensus.wire import Committed, StateAge
from sappers.model.commands import Entry


class _Agent:
    def __init__(self) -> None:
        self.heard: list[tuple[msgspec.Struct, ...]] = []
        self.news = asyncio.Event()
        self.outbox = Outbox(self._hear)

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
    agent.outbox.forget_entries()
    agent.outbox.send_all()
    assert agent.heard == []
