"""Whatever clocks show and however late a word is read: it was not said before it is said to be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.ages import ClockReading
from sappers.decisions.fencing import CLOCK_DRIFT_MAX

rates = st.floats(1 - CLOCK_DRIFT_MAX, 1 + CLOCK_DRIFT_MAX)
offsets = st.floats(-1e6, 1e6)
moments = st.floats(0.0, 1e5)


@given(rates, rates, offsets, offsets, moments, st.floats(0.0, 10.0), moments)
def test_nothing_is_thought_to_be_said_later_than_it_was(
    rate: float,
    their_rate: float,
    ours: float,
    theirs: float,
    asked: float,
    way: float,
    said: float,
) -> None:
    """`asked`, `said`: in true seconds; the answer is given `way` after it was asked for."""

    def our_clock(true: float) -> float:
        return ours + true * rate

    def their_clock(true: float) -> float:
        return theirs + true * their_rate

    reading = ClockReading("m1", 1, their_clock(asked + way), our_clock(asked))
    assert reading.said_at(their_clock(said)) <= our_clock(said) + 1e-6


def test_the_more_members_there_are_the_longer_a_reading_lasts() -> None:
    reading = ClockReading("m1", 1, 5.0, 100.0)
    assert not reading.is_due(119.0, 3)
    assert reading.is_due(121.0, 3)
    assert not reading.is_due(199.0, 5000)
    assert reading.is_due(221.0, 5000)
