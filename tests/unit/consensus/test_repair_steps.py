from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.consensus.repair_steps import STEPS_MAX
from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import REPAIRS_KEPT, ClusterState
from sappers.model.codec import decode_state, encode_state
from sappers.model.commands import Command, PlaceAllocation, ReportAllocation
from sappers.model.repair import NUMBERS_APART, Finding, RepairKey, RepairStatus
from sappers.model.repair_commands import (
    ClaimRepair,
    CloseRepair,
    CountRefusedRepair,
    FailAttempt,
    OpenRepair,
    PutRepairKey,
    ReportRepairStep,
)
from tests.unit.repair_worlds import (
    KEY,
    assign,
    died,
    healing_cluster,
    login,
    only_repair,
    opened,
    revived,
)
from tests.unit.worlds import commit


def done(state: ClusterState, *commands: Command, time: float = 110.0) -> ClusterState:
    """The state after commands that are not refused."""
    state, outcome = commit(state, *commands, time=time)
    assert not outcome.refused
    return state


def refusal(state: ClusterState, command: Command, time: float = 110.0) -> str:
    """Why a command is refused; it must be, and change nothing but the index."""
    after, outcome = commit(state, command, time=time)
    assert outcome.refused
    assert (after.repairs, after.allocations) == (state.repairs, state.allocations)
    return outcome.refused


def claimed() -> ClusterState:
    state = done(opened(), assign())
    return done(state, ClaimRepair("r1", 1, "h1", 300.0), time=120.0)


def test_a_whole_repair_is_a_chain_of_events() -> None:
    state = done(claimed(), ReportRepairStep("r1", 1, "h1", 1, "starting it"), time=130.0)
    state = done(state, CloseRepair("r1", RepairStatus.RESTORED, "alive again"), time=140.0)
    kinds = [event.kind for event in state.events if event.kind.startswith("repair.")]
    assert kinds == [
        "repair.opened",
        "repair.assigned",
        "repair.claimed",
        "repair.step",
        "repair.restored",
    ]
    assert decode_state(encode_state(state)) == state


def test_a_member_that_lives_is_not_repaired_and_one_that_is_dead_once_only() -> None:
    assert "neither dead" in refusal(healing_cluster(), OpenRepair("r1", "m2", "test"))
    assert "already" in refusal(opened(), OpenRepair("r2", "m2", "test"))
    again = done(opened(), OpenRepair("r1", "m2", "test"))
    assert len(again.repairs) == 1


def test_a_healer_is_placed_by_its_repair_alone_and_on_another_member() -> None:
    state = opened()
    healer = assign().allocation
    assert "by its repair alone" in refusal(state, PlaceAllocation(healer, "test"))
    assert "cannot run it" in refusal(state, assign(on="m2"))
    assert "no healer of" in refusal(state, assign(repair="r9"))
    assert "not open for attempt" in refusal(state, assign(2))
    state = done(state, assign())
    assert done(state, assign()).repairs == state.repairs  # the same plan, proposed twice
    assert "not open for attempt" in refusal(state, assign(2))


def test_a_credential_is_claimed_once_in_time_and_by_the_healer_alone() -> None:
    state = done(opened(), assign())
    assert "is not its healer" in refusal(state, ClaimRepair("r1", 1, "hello-1", 300.0))
    late = refusal(state, ClaimRepair("r1", 1, "h1", 600.0), time=251.0)
    assert "after its deadline" in late
    assert "claimed already" in refusal(claimed(), ClaimRepair("r1", 1, "h1", 300.0))
    closed = done(state, CloseRepair("r1", RepairStatus.FAILED, "test"))
    assert "is over" in refusal(closed, ClaimRepair("r1", 1, "h1", 300.0))


def test_the_same_key_may_claim_again_until_its_deadline_and_changes_nothing() -> None:
    state = done(opened(), assign())
    assert "claimed already" in refusal(claimed(), ClaimRepair("r1", 1, "h1", 300.0, "mine"))
    state = done(state, ClaimRepair("r1", 1, "h1", 300.0, "mine"), time=120.0)
    again = done(state, ClaimRepair("r1", 1, "h1", 480.0, "mine"), time=300.0)
    assert (again.repairs, again.events) == (state.repairs, state.events)
    assert "claimed already" in refusal(state, ClaimRepair("r1", 1, "h1", 300.0, "another"))
    late = ClaimRepair("r1", 1, "h1", 480.0, "mine")
    assert "claimed already" in refusal(state, late, time=301.0)
    state = done(state, ReportAllocation("h1", AllocationStatus.FAILED, "test"))
    state = done(state, FailAttempt("r1", 1, "test", 0.0), assign(2))
    assert only_repair(state).public_key == ""


def test_a_snapshot_of_a_version_that_kept_no_key_is_read() -> None:
    raw = msgspec.msgpack.decode(encode_state(claimed()))
    del raw["repairs"]["r1"]["public_key"]
    assert decode_state(msgspec.msgpack.encode(raw)) == claimed()


def test_steps_are_the_claimed_attempts_alone_and_bounded() -> None:
    unclaimed = done(opened(), assign())
    assert "no credential" in refusal(unclaimed, ReportRepairStep("r1", 1, "h1", 1, "x"))
    state = claimed()
    assert "not its healer" in refusal(state, ReportRepairStep("r1", 1, "h2", 1, "x"))
    assert "past its deadline" in refusal(
        state, ReportRepairStep("r1", 1, "h1", 1, "x"), time=301.0
    )
    assert "no more to say" in refusal(state, ReportRepairStep("r1", 1, "h1", STEPS_MAX + 1, "x"))
    state = done(state, ReportRepairStep("r1", 1, "h1", 1, "x"))
    assert len(done(state, ReportRepairStep("r1", 1, "h1", 1, "x")).events) == len(state.events)
    state = done(state, ReportRepairStep("r1", 1, "h1", 2, "done", Finding.RESTORED))
    assert only_repair(state).finding is Finding.RESTORED
    assert "no more to say" in refusal(state, ReportRepairStep("r1", 1, "h1", 3, "x"))


@pytest.mark.parametrize(
    ("ended", "free"),
    [
        (None, False),
        (AllocationStatus.LOST, False),
        (AllocationStatus.FAILED, True),
        (AllocationStatus.STOPPED, True),
    ],
)
def test_no_second_healer_while_the_first_may_be_at_work(ended, free) -> None:
    """Only an end that was seen frees the host before the credential has ended."""
    state = claimed()
    if ended is not None:
        state = done(state, ReportAllocation("h1", ended, "test"))
    state = done(state, FailAttempt("r1", 1, "test", 0.0))
    if free:
        done(state, assign(2), time=200.0)
    else:
        assert "may still be at work" in refusal(state, assign(2), time=200.0)
    done(state, assign(2), time=306.0)


def test_refusals_are_counted_and_told() -> None:
    state = done(claimed(), CountRefusedRepair("r1", "h1", "claimed already", 3))
    assert only_repair(state).refused == 3
    assert state.events[-1].kind == "repair.refused"


def test_a_repair_ends_once() -> None:
    state = done(claimed(), CloseRepair("r1", RepairStatus.MOVED, "test"))
    assert "cannot become" in refusal(state, CloseRepair("r1", RepairStatus.RESTORED, "test"))
    assert "cannot become" in refusal(opened(), CloseRepair("r1", RepairStatus.CLAIMED, "test"))


def test_old_repairs_are_forgotten_and_open_ones_are_not() -> None:
    state = healing_cluster()
    for number in range(REPAIRS_KEPT + 5):
        state = died(state, "m3", 1000.0 + number)
        state = done(state, OpenRepair(f"r{number}", "m3", "test"), time=1000.0 + number)
        state = revived(state, "m3", 1000.5 + number)
        closing = CloseRepair(f"r{number}", RepairStatus.RESTORED, "test")
        state = done(state, closing, time=1000.5 + number)
    assert len(state.repairs) == REPAIRS_KEPT
    assert "r0" not in state.repairs


def test_the_key_stays_when_it_comes_sealed_anew_and_is_replaced_by_another() -> None:
    state = healing_cluster()
    again = done(state, PutRepairKey(RepairKey(KEY.public, b"sealed anew"), (login("m1"),)))
    assert (again.repair_key, again.events) == (KEY, state.events)
    other = RepairKey("ssh-ed25519 BBBB", b"other")
    rotated = done(state, PutRepairKey(other, ()))
    assert rotated.repair_key == other
    assert rotated.repair_logins == state.repair_logins
    assert rotated.events[-1].kind == "repair-key.changed"


def test_what_the_authority_said_before_does_not_come_back() -> None:
    def numbered(number: int, user: str = "root") -> PutRepairKey:
        changed = msgspec.structs.replace(login("m1"), number=number, user=user)
        return PutRepairKey(KEY, (changed,))

    state = done(healing_cluster(), numbered(0, "of a version without numbers"))
    state = done(state, numbered(7))
    assert done(state, numbered(7)).repair_logins == state.repair_logins
    for earlier in (numbered(0), numbered(6), numbered(7, "other"), numbered(7 + NUMBERS_APART)):
        assert "how healers log in to m1: number" in refusal(state, earlier)
    assert done(state, numbered(8, "other")).repair_logins["m1"].user == "other"

    def images(number: int, *keys: str, public: str = KEY.public) -> PutRepairKey:
        return PutRepairKey(RepairKey(public, b"sealed", keys, number=number), ())

    state = done(healing_cluster(), images(0, "a"))
    state = done(state, images(7, "b"))
    for earlier in (
        images(0, "a"),
        images(6, "a"),
        images(7, "a"),
        images(6, "b", public="ssh-ed25519 BBBB"),
        images(7 + NUMBERS_APART, "a"),
    ):
        assert "the repair key: number" in refusal(state, earlier)
    assert done(state, images(7, "b")).repair_key == state.repair_key
    assert done(state, images(8, "a")).repair_key == images(8, "a").key


_COMMANDS = st.one_of(
    st.builds(OpenRepair, st.sampled_from(["r1", "r2"]), st.just("m2"), st.just("x")),
    st.builds(assign, st.integers(1, 3), st.sampled_from(["m1", "m2", "m3"])),
    st.builds(
        ClaimRepair,
        st.just("r1"),
        st.integers(1, 3),
        st.sampled_from(["h1", "h2", "h3"]),
        st.floats(100, 400),
        st.sampled_from(["", "k1", "k2"]),
    ),
    st.builds(FailAttempt, st.just("r1"), st.integers(1, 3), st.just("x"), st.just(0.0)),
    st.builds(
        CloseRepair, st.sampled_from(["r1", "r2"]), st.sampled_from(RepairStatus), st.just("x")
    ),
    st.builds(
        ReportAllocation,
        st.sampled_from(["h1", "h2", "h3"]),
        st.sampled_from(AllocationStatus),
        st.just("x"),
    ),
)


@given(st.lists(st.tuples(_COMMANDS, st.floats(0, 60)), max_size=30))
def test_two_never_repair_the_same_thing(steps: list[tuple[Command, float]]) -> None:
    """Whatever is proposed, in whatever order: one open repair, and one credential at a time."""
    state, now = opened(), 100.0
    credentials: list[tuple[str, float]] = []  # who holds one, until when
    for command, wait in steps:
        now += wait
        before = state.repairs
        state, outcome = commit(state, command, time=now)
        open_ones = [one for one in state.repairs.values() if not one.status.is_terminal]
        assert len(open_ones) <= 1
        if isinstance(command, ClaimRepair) and not outcome.refused:
            if before["r1"].status is not RepairStatus.ASSIGNED:  # the same claim once more
                assert before["r1"].public_key == command.public_key != ""
                assert state.repairs == before
                continue
            for holder, until in credentials:
                ended = state.allocations[holder].status
                seen = ended in (AllocationStatus.FAILED, AllocationStatus.STOPPED)
                assert seen or now >= until, (holder, command)
            credentials.append((command.allocation_id, command.deadline))


def test_a_repair_leads_from_the_death_to_the_return() -> None:
    state = done(claimed(), ReportAllocation("h1", AllocationStatus.STARTING, "booting"))
    state = done(state, ReportRepairStep("r1", 1, "h1", 1, "starting it"), time=130.0)
    state = revived(state, "m2", 135.0)
    state = done(state, CloseRepair("r1", RepairStatus.RESTORED, "alive again"), time=140.0)
    by_number = {event.number: event for event in state.events}
    event, kinds = state.events[-1], []
    while event is not None:
        kinds.append(event.kind)
        event = by_number.get(event.cause)
    assert kinds[::-1] == [
        "member.dead",
        "repair.opened",
        "repair.assigned",
        "repair.claimed",
        "repair.step",
        "member.alive",
        "repair.restored",
    ]
    healer = next(one for one in state.events if one.subject == "h1")
    assert by_number[healer.cause].kind == "repair.claimed"  # its newest when it was heard
