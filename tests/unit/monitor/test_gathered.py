"""The monitor: what guests push and the cluster tells becomes what Prometheus reads."""

from __future__ import annotations

import json

import gathered as module
from gathered import Gathered, metrics
from hypothesis import given
from hypothesis import strategies as st
from monitor import Monitor, answer
from prometheus_client.parser import text_string_to_metric_families


def push(sequence: int, *, healthy: bool = True, boot_id: str = "b1") -> bytes:
    return json.dumps({"boot_id": boot_id, "sequence": sequence, "healthy": healthy}).encode()


def event(
    kind: str, subject: str, text: str = "it is so", *, number: int = 0, cause: int = 0
) -> bytes:
    told = {"kind": kind, "subject": subject, "text": text, "number": number, "cause": cause}
    return json.dumps({key: value for key, value in told.items() if value != 0}).encode()


def values(gathered: Gathered, now: float, *alerts: tuple[str, str]) -> dict[str, float]:
    families = text_string_to_metric_families(metrics(gathered, list(alerts), now))
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_last_push_counts_and_a_copy_does_not() -> None:
    gathered = Gathered()
    for sequence, healthy in ((0, True), (1, False), (1, False), (0, True)):
        gathered.push("web-1", push(sequence, healthy=healthy), 10.0)
    found = values(gathered, 12.5)
    assert found["sappers_guest_healthy web-1"] == 0
    assert found["sappers_guest_pushes_total web-1"] == 2
    assert found["sappers_guest_silent_seconds web-1"] == 2.5
    assert found["sappers_monitor_repeated_pushes_total"] == 2


def test_a_guest_that_boots_again_begins_again() -> None:
    gathered = Gathered()
    gathered.push("web-1", push(50), 1.0)
    gathered.push("web-1", push(0, boot_id="b2"), 2.0)
    found = values(gathered, 2.0)
    assert found["sappers_guest_boots_total web-1"] == 2
    assert found["sappers_guest_pushes_total web-1"] == 2


def test_nonsense_is_counted_and_nothing_else() -> None:
    gathered = Gathered()
    deep = b'{"boot_id": ' + b"[" * 9000
    huge = b'{"boot_id": "b1", "sequence": 1e400, "healthy": true}'
    for payload in (b"", b"[]", b"{}", b"\xff", b'{"boot_id": 1, "sequence": "x"}', deep, huge):
        gathered.push("web-1", payload, 1.0)
        gathered.event(payload, 1.0)
    assert values(gathered, 1.0)["sappers_monitor_unreadable_messages_total"] == 14
    assert not gathered.guests
    assert not gathered.told


def test_events_are_counted_by_kind_and_members_by_the_last_word() -> None:
    gathered = Gathered()
    for kind, subject in (
        ("member.joined", "m1"),
        ("member.joined", "m2"),
        ("member.suspect", "m2"),
        ("member.dead", "m2"),
        ("allocation.healthy", "web-1"),
    ):
        gathered.event(event(kind, subject), 1.0)
    found = values(gathered, 2.0, ("member.dead", "m2"))
    assert found["sappers_events_total member.joined"] == 2
    assert found["sappers_members_heard alive"] == 1
    assert found["sappers_members_heard dead"] == 1
    assert found["sappers_alert member.dead m2"] == 1


def test_a_guest_that_ended_is_not_silent() -> None:
    gathered = Gathered()
    gathered.push("web-1", push(0), 1.0)
    gathered.event(event("allocation.stopped", "web-1"), 2.0)
    assert not gathered.guests


def test_the_long_silent_are_forgotten() -> None:
    gathered = Gathered()
    gathered.push("web-1", push(0), 0.0)
    gathered.event(event("allocation.lost", "web-1"), 0.0)
    gathered.event(event("member.dead", "m1"), 0.0)
    gathered.forget(module.FORGET_SECONDS + 1.0)
    assert (gathered.guests, gathered.told) == ({}, {})
    assert list(gathered.lasting) == [("member.dead", "m1")]


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 60), st.text(max_size=8), st.booleans()),
        max_size=200,
    )
)
def test_it_is_bounded_and_readable_however_many_talk_about_whatever(
    messages: list[tuple[bool, int, str, bool]],
) -> None:
    bounds = (module.GUESTS_MAX, module.MEMBERS_MAX, module.KINDS_MAX)
    module.GUESTS_MAX, module.MEMBERS_MAX, module.KINDS_MAX = 20, 10, 5
    try:
        gathered = Gathered()
        for number, (pushes, who, text, healthy) in enumerate(messages):
            if pushes:
                gathered.push(f"web-{who}{text}", push(number, healthy=healthy), float(number))
            else:
                gathered.event(event(f"member.{text}", f"m{who}", text), float(number))
                gathered.event(event("member.dead", f"m{who}", text), float(number))
        assert len(gathered.guests) <= 20
        assert len(gathered.told) <= 20
        assert len(gathered.lasting) <= 10
        assert len(gathered.members) <= 10
        assert len(gathered.events) <= 6
        assert values(gathered, 1e6)
    finally:
        module.GUESTS_MAX, module.MEMBERS_MAX, module.KINDS_MAX = bounds


def test_only_metrics_and_health_are_served() -> None:
    monitor = Monitor()
    assert answer("GET /metrics?x HTTP/1.1", monitor).startswith(b"HTTP/1.1 200")
    assert answer("GET /health HTTP/1.0", monitor).endswith(b"ok\n")
    assert answer("GET / HTTP/1.1", monitor).startswith(b"HTTP/1.1 404")
    assert answer("POST /metrics HTTP/1.1", monitor).startswith(b"HTTP/1.1 405")
    assert answer("", monitor).startswith(b"HTTP/1.1 405")
    assert answer("HEAD /metrics HTTP/1.0", monitor).endswith(b"\r\n\r\n")
