from __future__ import annotations

import msgspec

from sappers.agent.pulses import Pulses, pulse_of
from sappers.decisions.suspicion import (
    GUESTS_SILENT_SECONDS,
    HEARD_SECONDS,
    PULSE_SECONDS,
    SILENT_SECONDS,
)
from sappers.model import subjects
from sappers.model.observation import GuestProcess, HealthPush
from sappers.model.suspicion import Pulse
from sappers.ports import Received, Unsubscribe


class Hub:
    """A hub that carries everything to everyone, and a clock."""

    def __init__(self) -> None:
        self.time = 100.0
        self.away = False
        self.said: list[str] = []
        self.ears: list[Received] = []

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def publish(self, subject: str, payload: bytes) -> None:
        if self.away:
            return
        self.said.append(subject)
        for hear in tuple(self.ears):
            await hear(subject, payload)

    async def subscribe(self, subject: str, received: Received) -> Unsubscribe:
        assert subject == subjects.PULSE_ALL
        self.ears.append(received)
        return lambda: self.ears.remove(received)


def of(hub: Hub, member_id: str) -> Pulses:
    return Pulses(hub, hub, member_id)  # type: ignore[arg-type]


async def test_a_pulse_is_given_now_and_again_and_heard_by_who_votes() -> None:
    hub = Hub()
    voter, other = of(hub, "m1"), of(hub, "m2")
    await voter.attend(votes=True, leader_known=True)
    await other.attend(votes=False, leader_known=True)
    for _ in range(3):
        await voter.beat({}, {})
        await other.beat({}, {})
    assert hub.said == [subjects.pulse("m1"), subjects.pulse("m2")]
    hub.time += PULSE_SECONDS
    await voter.beat({}, {})
    assert {who: r.age_seconds for who, r in voter.readings().items()} == {"m2": PULSE_SECONDS}
    assert other.readings() == {}
    await voter.attend(votes=False, leader_known=True)
    assert not hub.ears


async def test_whose_own_pulse_does_not_come_back_says_nothing_of_others() -> None:
    hub = Hub()
    voter, other = of(hub, "m1"), of(hub, "m2")
    await voter.attend(votes=True, leader_known=True)
    await voter.beat({}, {})
    await other.beat({}, {})
    hub.away = True
    hub.time += HEARD_SECONDS + 1
    await voter.beat({}, {})
    assert voter.readings() == {}


async def test_who_was_cut_off_counts_silence_from_the_end_of_that() -> None:
    hub = Hub()
    voter, other = of(hub, "m1"), of(hub, "m2")
    await voter.attend(votes=True, leader_known=True)
    await other.beat({}, {})
    hub.time += 149.0
    await voter.attend(votes=True, leader_known=False)
    hub.time += SILENT_SECONDS - 1.0
    await voter.attend(votes=True, leader_known=True)
    await voter.beat({}, {})
    assert voter.readings() == {}, "neither is it silent nor was it heard"
    hub.time += 1.0
    assert voter.readings()["m2"].age_seconds == SILENT_SECONDS
    await other.beat({}, {})
    assert voter.readings()["m2"].age_seconds == 0.0


async def test_an_election_among_those_who_are_heard_hides_no_silence() -> None:
    hub = Hub()
    voter, other, dead = of(hub, "m1"), of(hub, "m2"), of(hub, "m3")
    await voter.attend(votes=True, leader_known=True)
    await dead.beat({}, {})
    hub.time += SILENT_SECONDS - HEARD_SECONDS
    await other.beat({}, {})
    hub.time += HEARD_SECONDS
    await voter.attend(votes=True, leader_known=False)
    await voter.beat({}, {})
    assert voter.readings()["m3"].age_seconds == SILENT_SECONDS


async def test_what_is_no_pulse_is_dropped() -> None:
    hub = Hub()
    voter = of(hub, "m1")
    await voter.attend(votes=True, leader_known=True)
    await voter.beat({}, {})
    for payload in (b"", b"\xff", b"[1]", b'{"guests": "x"}', b'{"x":"' + b"y" * 300 + b'"}'):
        await hub.publish(subjects.pulse("m2"), payload)
    assert voter.readings() == {}
    await hub.publish(subjects.pulse("m2"), msgspec.json.encode(Pulse(2, 1)))
    assert voter.readings()["m2"].pulse == Pulse(2, 1)
    voter.keep_only({"m1"})
    assert voter.readings() == {}


def test_guests_count_once_they_were_heard_in_this_life() -> None:
    now = 1000.0

    def push(name: str, at: float) -> HealthPush:
        return HealthPush(name, at, healthy=True, reason="", boot_id="b")

    guests = {
        name: GuestProcess(name, running=running, started_at=started)
        for name, running, started in (
            ("heard", True, 10.0),
            ("silent", True, 10.0),
            ("boots", True, 10.0),
            ("again", True, 995.0),
            ("ended", False, 10.0),
        )
    }
    silent = now - GUESTS_SILENT_SECONDS
    pushes = {
        name: push(name, at)
        for name, at in (("heard", now - 1), ("silent", silent), ("again", silent), ("ended", 20.0))
    }
    assert pulse_of(guests, pushes, now) == Pulse(guests=2, silent=1)
