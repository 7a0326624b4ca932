from __future__ import annotations

from sappers.agent.clock import STEP_SECONDS, StepWatch
from tests.unit.clocks import SteppingClock


def test_time_counts_from_the_last_step_forward_or_back() -> None:
    clock = SteppingClock()
    watch = StepWatch(clock)
    assert watch.read() == (clock.now(), float("inf"))
    clock.advance(100.0)
    assert watch.read() == (clock.now(), float("inf"))
    for step in (3600.0, -7200.0, STEP_SECONDS):
        clock.step(step)
        assert watch.read() == (clock.now(), 0.0)
        clock.advance(7.0)
        assert watch.read() == (clock.now(), 7.0)


def test_a_clock_that_is_set_little_by_little_does_not_step() -> None:
    clock = SteppingClock()
    watch = StepWatch(clock)
    watch.read()
    for _ in range(100):
        clock.advance(1.0)
        clock.step(0.1)
        assert watch.read() == (clock.now(), float("inf"))
