from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sappers.agent.hub.refusals import OTHERS, SHOWN_MAX, SHOWN_SECONDS, SUBJECTS_MAX, Refusals
from sappers.model.refusal import RefusalKind
from tests.unit.clocks import FixedClock


def test_each_who_tries_is_counted_apart_and_the_loudest_comes_first() -> None:
    clock = FixedClock()
    refusals = Refusals(clock)
    refusals.count(RefusalKind.RATE, "hello-1", 40)
    refusals.count(RefusalKind.FORGED, "hello-1")
    clock.time = 12.0
    refusals.count(RefusalKind.RATE, "hello-2", 50)
    found = [(one.kind, one.subject, one.count, one.age_seconds) for one in refusals.snapshot()]
    assert found == [
        ("rate", "hello-2", 50, 0.0),
        ("rate", "hello-1", 40, 2.0),
        ("forged", "hello-1", 1, 2.0),
    ]
    assert refusals.totals()["rate"] == 90
    assert refusals.totals()["control"] == 0


def test_what_is_over_for_long_is_shown_no_more_but_stays_in_the_totals() -> None:
    clock = FixedClock()
    refusals = Refusals(clock)
    refusals.count(RefusalKind.SIZE, "hello-1")
    clock.time += SHOWN_SECONDS + 1
    assert refusals.snapshot() == ()
    assert refusals.totals()["size"] == 1


@given(
    st.lists(
        st.tuples(st.sampled_from(RefusalKind), st.integers(0, 1500), st.integers(1, 9)),
        max_size=900,
    )
)
def test_however_many_try_the_table_is_bounded_and_nothing_is_lost(
    tries: list[tuple[RefusalKind, int, int]],
) -> None:
    refusals = Refusals(FixedClock())
    for kind, who, times in tries:
        refusals.count(kind, f"guest-{who}", times)
    assert len(refusals._counts) <= SUBJECTS_MAX + len(RefusalKind)
    assert sum(refusals.totals().values()) == sum(times for _, _, times in tries)
    assert sum(count for count, _ in refusals._counts.values()) == sum(t for _, _, t in tries)
    assert len(refusals.snapshot()) <= SHOWN_MAX


def test_a_subject_that_is_heard_of_again_is_not_the_oldest() -> None:
    refusals = Refusals(FixedClock())
    refusals.count(RefusalKind.RATE, "loud", 1000)
    for number in range(2000):
        refusals.count(RefusalKind.HANDSHAKE, f"10.0.{number // 250}.{number % 250}")
        refusals.count(RefusalKind.RATE, "loud")
    first, second = refusals.snapshot()[:2]
    assert (first.subject, first.count) == ("loud", 3000)
    assert second.subject == OTHERS
