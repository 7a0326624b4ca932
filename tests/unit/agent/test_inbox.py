from __future__ import annotations

from sappers.agent.inbox import REASON_LENGTH_MAX, HealthInbox


class FixedClock:
    def __init__(self) -> None:
        self.time = 10.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


async def test_the_last_push_counts_and_says_whether_it_is_news() -> None:
    clock = FixedClock()
    inbox = HealthInbox(clock)
    subject = "sappers.guest.hello-1.health"
    assert await inbox.receive(subject, b'{"healthy": true, "boot_id": "b", "reason": "ok"}')
    clock.time = 11.0
    assert not await inbox.receive(subject, b'{"healthy": true, "boot_id": "b"}')
    clock.time = 12.0
    assert await inbox.receive(subject, b'{"healthy": false, "boot_id": "b"}')
    last = inbox.last()["hello-1"]
    assert (last.received_at, last.healthy, last.healthy_at) == (12.0, False, 11.0)


async def test_health_of_another_boot_does_not_count() -> None:
    inbox = HealthInbox(FixedClock())
    subject = "sappers.guest.hello-1.health"
    await inbox.receive(subject, b'{"healthy": true, "boot_id": "one"}')
    assert await inbox.receive(subject, b'{"healthy": false, "boot_id": "two"}')
    assert inbox.last()["hello-1"].healthy_at is None


async def test_garbage_is_counted_and_a_long_reason_is_cut() -> None:
    inbox = HealthInbox(FixedClock())
    subject = "sappers.guest.hello-1.health"
    for garbage in (
        *(b"", b"{", b"[]", b'{"healthy": "yes"}', b"\xff" * 100),
        b'{"healthy": true, "reason": "\xff"}',
        b'{"x": ' + b"[" * 60_000,
    ):
        assert not await inbox.receive(subject, garbage)
    assert inbox.dropped == 7
    assert inbox.last() == {}
    await inbox.receive(subject, b'{"healthy": true, "reason": "' + b"x" * 5000 + b'"}')
    assert len(inbox.last()["hello-1"].reason) == REASON_LENGTH_MAX


async def test_guests_that_are_gone_are_forgotten() -> None:
    inbox = HealthInbox(FixedClock())
    await inbox.receive("sappers.guest.a.health", b'{"healthy": true}')
    await inbox.receive("sappers.guest.b.health", b'{"healthy": true}')
    inbox.keep_only({"b"})
    assert set(inbox.last()) == {"b"}
