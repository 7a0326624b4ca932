from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sappers.agent.images.rate import BURST_SECONDS, Rate

MBIT = 8.0  # a megabyte a second


class Watch:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.integers(1, 2_000_000), st.floats(0, 5)), max_size=20))
def test_never_more_than_the_rate_and_a_burst(wanted: list[tuple[int, float]]) -> None:
    watch = Watch()
    rate = Rate(MBIT, watch)
    allowed = 0
    for count, pause in wanted:
        delay = rate.reserve(count)
        # What was allowed before this one may go fits into the time until then.
        assert allowed <= (watch.now + delay - 100.0 + BURST_SECONDS) * 1e6 + 1
        allowed += count
        watch.now += delay + pause


def test_what_was_not_needed_is_given_back() -> None:
    watch = Watch()
    rate = Rate(MBIT, watch)
    assert rate.reserve(1_000_000) == 0.0
    rate.give_back(900_000)
    assert rate.reserve(1) == 0.0
    assert rate.reserve(2_000_000) == 0.0
    assert 1.7 < rate.reserve(1) < 2.0


def test_no_bound_never_waits() -> None:
    rate = Rate(0.0, Watch())
    assert {rate.reserve(10**9) for _ in range(5)} == {0.0}
