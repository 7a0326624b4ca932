"""One guest that talks too much is heard less; the others are heard as ever."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hypothesis import given
from hypothesis import strategies as st

from sappers.agent.hub.bucket import Bucket
from sappers.agent.hub.guest_ear import (
    CALLS,
    CALLS_AT_ONCE,
    DEAF_SECONDS,
    PUSHES,
    GuestCalls,
    GuestEar,
    guests_to_hear,
)
from sappers.agent.hub.refusals import OTHERS, Refusals
from sappers.model.allocation import AllocationStatus
from sappers.ports import Busy
from tests.fake_member import make_allocation
from tests.unit.clocks import FixedClock
from tests.unit.worlds import founded, with_allocations


class OpenHub:
    """Delivers at once to whoever has subscribed to just that subject."""

    def __init__(self) -> None:
        self.heard: dict[str, Callable[[str, bytes], Awaitable[None]]] = {}
        self.busy: dict[str, Busy] = {}

    async def subscribe(self, subject, received, *, waiting_max=0, dropped=None):
        assert waiting_max > 0
        self.heard[subject] = received

        def leave() -> None:
            self.heard.pop(subject, None)

        return leave

    async def serve(
        self, subject, queue, answer, *, at_once=0, busy=None, waiting_max=0, dropped=None
    ):
        assert queue and waiting_max > 0 and at_once > 0
        self.heard[subject] = answer
        self.busy[subject] = busy
        return lambda: self.heard.pop(subject, None)

    async def say(self, subject: str, payload: bytes = b"") -> bool:
        if subject not in self.heard:
            return False
        await self.heard[subject](subject, payload)
        return True


class World:
    def __init__(self) -> None:
        self.clock = FixedClock()
        self.hub = OpenHub()
        self.refusals = Refusals(self.clock)
        self.said: list[str] = []
        self.ear = GuestEar(clock=self.clock, hub=self.hub, refusals=self.refusals, hear=self.hear)

    async def hear(self, subject: str, payload: bytes) -> None:
        self.said.append(subject)


WANTED = {"loud": ("guest.loud.health",), "calm": ("guest.calm.health",)}


async def test_a_guest_that_talks_too_much_is_not_heard_for_a_while() -> None:
    world = World()
    await world.ear.attend(WANTED)
    delivered = [await world.hub.say("guest.loud.health") for _ in range(5000)]
    assert sum(delivered) == PUSHES.at_once + PUSHES.patience
    assert world.said == ["guest.loud.health"] * PUSHES.at_once
    assert await world.hub.say("guest.calm.health")
    assert world.refusals.totals()["rate"] == PUSHES.patience
    world.clock.time += DEAF_SECONDS / 2
    await world.ear.attend(WANTED)
    assert not await world.hub.say("guest.loud.health")
    world.clock.time += DEAF_SECONDS
    await world.ear.attend(WANTED)
    assert await world.hub.say("guest.loud.health")
    assert world.said[-1] == "guest.loud.health"


async def test_guests_that_are_gone_are_heard_no_more_and_new_subjects_are() -> None:
    world = World()
    await world.ear.attend(WANTED)
    await world.ear.attend({"calm": ("guest.calm.health", "guest.calm.alert")})
    assert sorted(world.hub.heard) == ["guest.calm.alert", "guest.calm.health"]


def test_only_a_monitors_alerts_and_only_own_guests_are_heard() -> None:
    mine = make_allocation("hello", "m1", id="hello-1")
    monitor = make_allocation("monitor", "m1", id="monitor-1", role="monitor")
    ended = make_allocation("hello", "m1", id="hello-2", status=AllocationStatus.STOPPED)
    other = make_allocation("hello", "m2", id="hello-3")
    state = with_allocations(founded(), mine, monitor, ended, other)
    assert guests_to_hear(state, "m1") == {
        "hello-1": ("sappers.guest.hello-1.health",),
        "monitor-1": ("sappers.guest.monitor-1.health", "sappers.guest.monitor-1.alert"),
    }


@given(st.lists(st.floats(0.0, 3.0), max_size=400))
def test_a_bucket_never_lets_more_through_than_its_rate(pauses: list[float]) -> None:
    bucket = Bucket(PUSHES.per_second, PUSHES.at_once)
    now, taken = 100.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now)
    assert taken <= PUSHES.at_once + PUSHES.per_second * (now - 100.0) + 1e-6
    assert taken >= min(len(pauses), PUSHES.at_once)


async def test_who_asks_too_often_is_told_to_come_later_and_then_is_not_heard() -> None:
    world = World()
    answered: list[str] = []

    async def answer(subject: str, payload: bytes, reply: str) -> bytes:
        answered.append(subject)
        return b"yes"

    calls = GuestCalls(
        clock=world.clock,
        hub=world.hub,
        refusals=world.refusals,
        queue="agents",
        answer=answer,
        busy=b"later",
    )
    wanted = {name: (f"sappers.guest.{name}.durable.*",) for name in ("loud-1", "calm-1")}
    await calls.attend(wanted)
    (subject,), inbox = wanted["loud-1"], "sappers.inbox.loud-1.x"
    ask = world.hub.heard[subject]
    assert await ask(subject, b"", inbox) == b"yes"
    said = [await ask(subject, b"", inbox) for _ in range(CALLS.at_once)]
    assert said == [b"yes"] * (CALLS.at_once - 1) + [b"later"]
    assert await ask(subject, b"", "sappers.log.entries") is None
    for _ in range(CALLS.patience):
        await ask(subject, b"", inbox)
    assert sorted(world.hub.heard) == ["sappers.guest.calm-1.durable.*"]
    assert len(answered) == CALLS.at_once
    world.clock.time += DEAF_SECONDS
    await calls.attend(wanted)
    assert await world.hub.heard[subject](subject, b"", inbox) == b"yes"


async def test_what_there_is_no_room_for_is_answered_and_counted_to_whoever_takes_it() -> None:
    world = World()

    async def answer(subject: str, payload: bytes, reply: str) -> bytes:
        return b"yes"

    calls = GuestCalls(
        clock=world.clock,
        hub=world.hub,
        refusals=world.refusals,
        queue="agents",
        answer=answer,
        busy=b"later",
    )
    subject, inbox = "sappers.guest.loud-1.durable.*", "sappers.inbox.loud-1.x"
    await calls.attend({"loud-1": (subject,)})
    busy = world.hub.busy[subject]
    assert busy(inbox, CALLS_AT_ONCE) == b"later"
    assert busy("sappers.log.entries", CALLS_AT_ONCE) is None
    assert busy(inbox, CALLS_AT_ONCE - 1) == b"later"
    counted = {one.subject: one.count for one in world.refusals.snapshot()}
    assert counted == {"loud-1": 2, OTHERS: 1}
    for _ in range(CALLS.at_once + CALLS.patience):
        busy(inbox, CALLS_AT_ONCE)
    assert not world.hub.heard
