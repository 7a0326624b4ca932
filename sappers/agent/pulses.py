"""Pulses: each agent's loop says again and again that it goes round; voters hear all of them.

Gossip answers from threads of its own, and Raft from a process of its own: both go on while the
loop of their agent hangs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from sappers.decisions.suspicion import (
    GUESTS_SILENT_SECONDS,
    HEARD_SECONDS,
    PULSE_SECONDS,
    SILENT_SECONDS,
)
from sappers.model import subjects
from sappers.model.observation import GuestProcess, HealthPush
from sappers.model.suspicion import Pulse, PulseReading
from sappers.ports import Clock, HubClient, Unsubscribe

PAYLOAD_BYTES_MAX = 256


class Pulses:
    """Gives this member's pulse, and while it has a vote hears everyone's."""

    def __init__(self, hub: HubClient, clock: Clock, me_id: str) -> None:
        self._hub = hub
        self._clock = clock
        self._me_id = me_id
        self._heard: dict[str, tuple[float, Pulse]] = {}
        self._due = float("-inf")
        self._cut_off_until = float("-inf")
        self._unsubscribe: Unsubscribe | None = None

    async def beat(
        self, guests: Mapping[str, GuestProcess], pushes: Mapping[str, HealthPush]
    ) -> None:
        """Publish a pulse where one is due; lost where the hub is away."""
        now = self._clock.monotonic()
        if now < self._due:
            return
        self._due = now + PULSE_SECONDS
        said = msgspec.json.encode(pulse_of(guests, pushes, now))
        await self._hub.publish(subjects.pulse(self._me_id), said)

    async def attend(self, *, votes: bool, leader_known: bool) -> None:
        """Hear the others while this member votes: a leader of tomorrow must know already.

        Where no leader is known either, it is this member that nobody's pulses reach.
        """
        if votes and self._unsubscribe is None:
            self._unsubscribe = await self._hub.subscribe(subjects.PULSE_ALL, self.receive)
        elif not votes and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
            self._heard.clear()
        now = self._clock.monotonic()
        heard = max((at for who, (at, _) in self._heard.items() if who != self._me_id), default=now)
        if not leader_known and now - heard > HEARD_SECONDS:
            self._cut_off_until = now

    async def receive(self, subject: str, payload: bytes) -> None:
        """Take one pulse; what is none is dropped."""
        if len(payload) > PAYLOAD_BYTES_MAX:
            return
        try:
            pulse = msgspec.json.decode(payload, type=Pulse)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        self._heard[subjects.member_of(subject)] = (self._clock.monotonic(), pulse)

    def readings(self) -> Mapping[str, PulseReading]:
        """The others' last pulses, by member id; none while our own do not come back to us.

        Once this member was cut off, silence counts from the end of that on, and says nothing
        before it could have been broken: whoever was suspected before stays so.
        """
        now = self._clock.monotonic()
        mine, _ = self._heard.get(self._me_id, (float("-inf"), None))
        if now - mine > HEARD_SECONDS:
            return {}
        joined = self._cut_off_until
        return {
            member_id: PulseReading(now - max(at, joined), pulse)
            for member_id, (at, pulse) in self._heard.items()
            if member_id != self._me_id and (at > joined or now - joined >= SILENT_SECONDS)
        }

    def keep_only(self, member_ids: Collection[str]) -> None:
        """Forget members that are in the state no more."""
        for member_id in self._heard.keys() - set(member_ids):
            del self._heard[member_id]


def pulse_of(
    guests: Mapping[str, GuestProcess], pushes: Mapping[str, HealthPush], now: float
) -> Pulse:
    """What there is to say of this host's guests. Pure.

    Args:
        guests: As the launcher sees them.
        pushes: The last one of each.
        now: Monotonic seconds, as in the pushes.
    """
    ages = [
        now - pushes[guest.allocation_id].received_at
        for guest in guests.values()
        if guest.running
        and guest.allocation_id in pushes
        # One that was started again since has not been heard yet.
        and pushes[guest.allocation_id].received_at >= (guest.started_at or 0.0)
    ]
    return Pulse(len(ages), sum(age >= GUESTS_SILENT_SECONDS for age in ages))
