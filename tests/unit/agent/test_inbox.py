from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from sappers.agent.hub.inbox import (
    PUSH_BYTES_MAX,
    REASON_LENGTH_MAX,
    REFUSED_AT_ONCE_MAX,
    HealthInbox,
)
from sappers.agent.hub.refusals import Refusals
from sappers.model.observation import GuestProcess
from tests.unit.clocks import FixedClock

SUBJECT = "sappers.guest.hello-1.health"


class World:
    def __init__(self) -> None:
        self.clock = FixedClock()
        self.refusals = Refusals(self.clock)
        self.inbox = HealthInbox(self.clock, self.refusals)

    async def push(self, sequence: int, *, healthy: bool = True, boot: str = "b") -> bool:
        said = {"healthy": healthy, "boot_id": boot, "sequence": sequence}
        return await self.inbox.receive(SUBJECT, json.dumps(said).encode())

    def refused(self, kind: str) -> int:
        return self.refusals.totals()[kind]


async def test_the_last_push_counts_and_says_whether_it_is_news() -> None:
    world = World()
    assert await world.push(0)
    world.clock.time = 11.0
    assert not await world.push(1)
    world.clock.time = 12.0
    assert await world.push(2, healthy=False)
    last = world.inbox.last()["hello-1"]
    assert (last.received_at, last.healthy, last.healthy_at) == (12.0, False, 11.0)


async def test_health_of_another_boot_does_not_count() -> None:
    world = World()
    await world.push(0, boot="one")
    assert await world.push(0, boot="two", healthy=False)
    assert world.inbox.last()["hello-1"].healthy_at is None


async def test_garbage_is_counted_and_a_long_reason_is_cut() -> None:
    world = World()
    for garbage in (
        *(b"", b"{", b"[]", b'{"healthy": "yes"}', b"\xff" * 100),
        b'{"healthy": true, "reason": "\xff"}',
        b'{"x": ' + b"[" * 3_000,
    ):
        assert not await world.inbox.receive(SUBJECT, garbage)
    assert world.refused("unreadable") == 7
    assert not await world.inbox.receive(SUBJECT, b"x" * (PUSH_BYTES_MAX + 1))
    assert world.refused("size") == 1
    assert world.inbox.last() == {}
    await world.inbox.receive(SUBJECT, b'{"healthy": true, "reason": "' + b"x" * 3000 + b'"}')
    assert len(world.inbox.last()["hello-1"].reason) == REASON_LENGTH_MAX


async def test_what_was_said_before_and_by_an_older_boot_is_forged() -> None:
    world = World()
    await world.push(4)
    await world.push(5, healthy=False)
    assert not await world.push(5)
    assert not await world.push(4)
    await world.push(0, boot="next", healthy=False)
    assert not await world.push(6)
    assert world.refused("forged") == 3
    assert not world.inbox.last()["hello-1"].healthy


async def test_what_went_over_a_link_that_broke_comes_late_and_is_not_forged() -> None:
    """The guest took another hub server meanwhile; the network kept what it had said before."""
    world = World()
    await world.push(0)
    await world.push(12, healthy=False)
    for late in range(1, 12):
        assert not await world.push(late)
    assert world.refused("forged") == 0
    assert not world.inbox.last()["hello-1"].healthy
    assert not await world.push(3)
    assert world.refused("forged") == 1, "late it may be once"
    await world.push(10**9)
    assert not await world.push(100)
    assert world.refused("forged") == 2


async def test_a_guest_that_has_ended_is_not_well_whatever_is_said_in_its_name() -> None:
    world = World()
    await world.push(0, healthy=False)
    ended = GuestProcess("hello-1", running=False, reason="the guest panicked")
    world.inbox.note_processes({"hello-1": ended}, under_way=())
    assert not await world.push(1)
    assert world.refused("forged") == 1
    world.inbox.note_processes({"hello-1": ended}, under_way={"hello-1"})
    assert await world.push(1)  # it is being started again: this may be its first word


async def test_another_process_begins_another_story() -> None:
    world = World()
    running = GuestProcess("hello-1", running=True, started_at=100.0)
    await world.push(7)
    world.inbox.note_processes({"hello-1": running}, under_way=())
    assert not await world.push(0)
    again = GuestProcess("hello-1", running=True, started_at=160.0)
    world.inbox.note_processes({"hello-1": again}, under_way=())
    await world.push(0)
    assert world.refused("forged") == 1


async def test_what_a_sidecar_refused_its_application_is_counted_once() -> None:
    world = World()
    for sequence, refused in ((0, 3), (1, 3), (2, 10), (3, 9), (4, 10**9)):
        said = {"healthy": True, "boot_id": "b", "sequence": sequence, "refused": refused}
        await world.inbox.receive(SUBJECT, json.dumps(said).encode())
    assert world.refused("socket") == 3 + 7 + REFUSED_AT_ONCE_MAX


async def test_guests_that_are_gone_are_forgotten() -> None:
    world = World()
    for name in "ab":
        await world.inbox.receive(f"sappers.guest.{name}.health", b'{"healthy": true}')
    world.inbox.keep_only({"b"})
    assert set(world.inbox.last()) == {"b"}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-2, 6)), max_size=40))
async def test_within_a_boot_numbers_only_rise_and_no_boot_comes_back(
    pushes: list[tuple[str, int]],
) -> None:
    world = World()
    accepted: list[tuple[str, int]] = []
    late: list[tuple[str, int]] = []
    for boot, sequence in pushes:
        taken, forged = world.inbox.accepted, world.refused("forged")
        world.clock.time += 1.0
        await world.push(sequence, boot=boot)
        if world.inbox.accepted > taken:
            accepted.append((boot, sequence))
        elif world.refused("forged") == forged:
            late.append((boot, sequence))
    assert len(late) == len(set(late) - set(accepted)), "what was said before is forged"
    boots = [boot for boot, _ in accepted]
    assert len(set(boots)) == sum(a != b for a, b in zip(["", *boots], boots, strict=False))
    for boot in set(boots):
        numbers = [sequence for other, sequence in accepted if other == boot]
        assert numbers == sorted(set(numbers))
