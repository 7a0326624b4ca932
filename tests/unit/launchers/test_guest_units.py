"""How often a supervisor is asked for the units of guests."""

from __future__ import annotations

from sappers.launchers.guest_units import FRESH_SECONDS, GuestUnits
from sappers.ports import UnitSpec, UnitStatus


class Told:
    """A supervisor that says what it is told, and may be disturbed while it does."""

    def __init__(self) -> None:
        self.names = ["g-a"]
        self.asked = 0
        self.meanwhile = lambda: None

    async def list(self, prefix: str) -> tuple[UnitStatus, ...]:
        self.asked += 1
        found = tuple(UnitStatus(name, running=True) for name in self.names)
        self.meanwhile()
        return found

    async def start(self, spec: UnitSpec) -> None: ...

    async def stop(self, name: str, grace_seconds: float) -> None: ...

    async def status(self, name: str) -> UnitStatus | None: ...


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def test_it_is_asked_once_in_a_while() -> None:
    told, clock = Told(), Clock()
    units = GuestUnits(told, "g-", clock)
    assert list(await units.look()) == list(await units.look()) == ["g-a"]
    assert told.asked == 1
    clock.seconds = FRESH_SECONDS
    await units.look()
    assert told.asked == 2


async def test_what_we_change_is_seen_at_once() -> None:
    told = Told()
    units = GuestUnits(told, "g-", Clock())
    await units.look()
    told.names = ["g-a", "g-b"]
    units.changed()
    assert list(await units.look()) == ["g-a", "g-b"]


async def test_an_answer_from_before_a_change_does_not_count() -> None:
    told = Told()
    units = GuestUnits(told, "g-", Clock())

    def start_another() -> None:
        told.meanwhile = lambda: None
        told.names = ["g-a", "g-b"]
        units.changed()

    told.meanwhile = start_another
    assert list(await units.look()) == ["g-a", "g-b"]
    assert told.asked == 2
