"""The monitor: what guests push becomes what Prometheus reads."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

SOURCE = Path(__file__).parents[3] / "unikernels" / "monitor" / "monitor.py"
spec = importlib.util.spec_from_file_location("monitor", SOURCE)
monitor = importlib.util.module_from_spec(spec)
sys.modules["monitor"] = monitor  # dataclasses look their module up
spec.loader.exec_module(monitor)


def push(sequence: int, *, healthy: bool = True, boot_id: str = "b1") -> bytes:
    return json.dumps({"boot_id": boot_id, "sequence": sequence, "healthy": healthy}).encode()


def values(gathered, now: float) -> dict[str, float]:
    families = text_string_to_metric_families(gathered.metrics(now))
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_last_push_counts_and_a_copy_does_not() -> None:
    gathered = monitor.Gathered()
    for sequence, healthy in ((0, True), (1, False), (1, False), (0, True)):
        gathered.push("sappers.guest.web-1.health", push(sequence, healthy=healthy), 10.0)
    found = values(gathered, 12.5)
    assert found["sappers_guest_healthyweb-1"] == 0
    assert found["sappers_guest_pushes_totalweb-1"] == 2
    assert found["sappers_guest_silent_secondsweb-1"] == 2.5


def test_a_guest_that_boots_again_begins_again() -> None:
    gathered = monitor.Gathered()
    gathered.push("sappers.guest.web-1.health", push(50), 1.0)
    gathered.push("sappers.guest.web-1.health", push(0, boot_id="b2"), 2.0)
    found = values(gathered, 2.0)
    assert found["sappers_guest_boots_totalweb-1"] == 2
    assert found["sappers_guest_pushes_totalweb-1"] == 2


def test_nonsense_is_counted_and_nothing_else() -> None:
    gathered = monitor.Gathered()
    for payload in (b"", b"[]", b"{}", b"\xff", b'{"boot_id": 1, "sequence": "x", "healthy": 1}'):
        gathered.push("sappers.guest.web-1.health", payload, 1.0)
    assert values(gathered, 1.0) == {"sappers_monitor_unreadable_pushes_total": 5}


def test_a_guest_long_silent_is_forgotten() -> None:
    gathered = monitor.Gathered()
    gathered.push("sappers.guest.web-1.health", push(0), 0.0)
    assert "web-1" not in gathered.metrics(4000.0)


def test_only_metrics_are_served() -> None:
    gathered = monitor.Gathered()
    assert monitor.answer("GET /metrics?x HTTP/1.1", gathered).startswith(b"HTTP/1.1 200")
    assert monitor.answer("GET / HTTP/1.1", gathered).startswith(b"HTTP/1.1 404")
    assert monitor.answer("POST /metrics HTTP/1.1", gathered).startswith(b"HTTP/1.1 405")
    assert monitor.answer("", gathered).startswith(b"HTTP/1.1 405")
    assert monitor.answer("HEAD /metrics HTTP/1.0", gathered).endswith(b"\r\n\r\n")
