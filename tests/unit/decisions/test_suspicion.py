from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.healing import STAYS_UP_SECONDS, reconcile_repairs
from sappers.decisions.leader_time import LeaderTime
from sappers.decisions.reconcile_cluster import reconcile_cluster
from sappers.decisions.scheduler import Placement, place
from sappers.decisions.suspicion import (
    ALONE_SECONDS,
    HEARD_SECONDS,
    SETTLED_SECONDS,
    SILENT_SECONDS,
    SURE_SECONDS,
    reconcile_suspicions,
)
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import PutWorkload, SetSuspicion
from sappers.model.member import MemberState
from sappers.model.observation import MemberObservation, RaftRole, RaftStatus
from sappers.model.repair import RepairStatus
from sappers.model.repair_commands import OpenRepair
from sappers.model.suspicion import Pulse, PulseReading, SuspicionSource
from tests.unit.repair_worlds import died, healing_cluster, only_repair, revived
from tests.unit.worlds import commit, workload

NOW = 1000.0
GOSSIP, RAFT = SuspicionSource.GOSSIP, SuspicionSource.RAFT
PULSE, GUESTS = SuspicionSource.PULSE, SuspicionSource.GUESTS


def seen(
    *,
    unheard: int | None = None,
    age: float | None = 0.0,
    guests: tuple[int, int] = (0, 0),
    leading: float = 1000.0,
) -> MemberObservation:
    """What the leader m1 sees of m2; all else is well."""
    pulses = {f"m{n}": PulseReading(0.0) for n in (1, 3)}
    if age is not None:
        pulses["m2"] = PulseReading(age, Pulse(*guests))
    return MemberObservation(
        raft=RaftStatus(
            RaftRole.LEADER,
            1,
            "m1",
            9,
            9,
            ("m1", "m2", "m3"),
            {"m2": unheard} if unheard is not None else {},
        ),
        pulses=pulses,
        leading_seconds=leading,
    )


def turn(state: ClusterState, observed: MemberObservation, now: float) -> ClusterState:
    """One turn of the leader, as far as suspicions and repairs go."""
    if recorded := reconcile_suspicions(state, observed, LeaderTime(now)):
        state, outcome = commit(state, *recorded, time=now)
        assert not outcome.refused
    while commands := reconcile_repairs(state, LeaderTime(now)):
        state, outcome = commit(state, *commands, time=now)
        assert not outcome.refused, outcome.refused
    return state


def held(state: ClusterState) -> tuple[SuspicionSource, ...]:
    suspicion = state.suspicion("m2")
    return suspicion.sources if suspicion is not None else ()


def test_a_voter_that_the_leader_does_not_hear_is_suspected_and_says_by_whom() -> None:
    state = turn(healing_cluster(), seen(unheard=int(SILENT_SECONDS) - 1), NOW)
    assert held(state) == ()
    state = turn(state, seen(unheard=int(SILENT_SECONDS)), NOW + 1)
    assert held(state) == (RAFT,)
    event = state.events[-1]
    assert (event.kind, event.subject) == ("member.suspected", "m2")
    assert event.text == "host2 is suspected by raft: Raft does not hear it for 12 s"


def test_one_source_alone_waits_long_and_two_do_not() -> None:
    suspected = turn(healing_cluster(), seen(unheard=12), NOW)
    alone = turn(suspected, seen(unheard=20), NOW + ALONE_SECONDS - 1)
    assert not alone.repairs
    alone = turn(alone, seen(unheard=70), NOW + ALONE_SECONDS)
    assert only_repair(alone).sources == (RAFT,)
    assert "suspected for 60 s: Raft does not hear it" in only_repair(alone).reason
    both = turn(suspected, seen(unheard=20, age=13.0), NOW + SETTLED_SECONDS)
    assert not both.repairs
    both = turn(both, seen(unheard=30, age=25.0), NOW + SURE_SECONDS)
    assert only_repair(both).sources == (RAFT, PULSE)


def test_a_death_is_repaired_as_soon_as_ever_and_says_who_else_saw_it() -> None:
    state = died(turn(healing_cluster(), seen(unheard=12), NOW), "m2", NOW + 1)
    state = turn(state, seen(unheard=15), NOW + 2)
    assert held(state) == (GOSSIP, RAFT)
    state = turn(state, seen(unheard=15), NOW + 1 + SURE_SECONDS)
    repair = only_repair(state)
    assert repair.sources == (GOSSIP, RAFT)
    assert repair.reason == "dead for 15 s; also suspected by raft"


def test_a_suspected_member_runs_no_healer_of_its_own_and_is_restored_by_what_is_heard() -> None:
    state = turn(healing_cluster(2), seen(unheard=12, age=13.0), NOW)
    state = turn(state, seen(unheard=30, age=30.0), NOW + SURE_SECONDS)
    repair = only_repair(state)
    assert state.allocations[repair.allocation_id].member_id == "m1"
    # Gossip had it alive all the time, which proves nothing.
    state = turn(state, seen(unheard=60, age=60.0), NOW + 60)
    assert only_repair(state).status is RepairStatus.ASSIGNED
    state = turn(state, seen(), NOW + 70)
    assert held(state) == ()
    assert state.events[-1].kind == "member.trusted"
    assert only_repair(state).status is RepairStatus.ASSIGNED
    state = turn(state, seen(), NOW + 70 + STAYS_UP_SECONDS)
    assert only_repair(state).status is RepairStatus.RESTORED


def test_a_new_leader_drops_nothing_before_it_could_have_heard() -> None:
    state = turn(healing_cluster(), seen(unheard=12), NOW)
    state = turn(state, seen(leading=1.0), NOW + 20)
    assert held(state) == (RAFT,)
    state = turn(state, seen(leading=SILENT_SECONDS), NOW + 31)
    assert held(state) == ()


def test_whoever_hears_no_pulse_at_all_neither_raises_nor_drops() -> None:
    state = turn(healing_cluster(), seen(age=None), NOW)
    assert held(state) == ()
    state = turn(state, seen(age=13.0), NOW + 1)
    assert held(state) == (PULSE,)
    state = turn(state, seen(age=None), NOW + 20)
    assert held(state) == (PULSE,)


def test_all_guests_silent_at_once_is_the_members_trouble_and_one_is_the_guests() -> None:
    assert held(turn(healing_cluster(), seen(guests=(1, 1)), NOW)) == ()
    assert held(turn(healing_cluster(), seen(guests=(3, 2)), NOW)) == ()
    state = turn(healing_cluster(), seen(guests=(3, 3)), NOW)
    assert held(state) == (GUESTS,)
    assert held(turn(state, seen(guests=(3, 1)), NOW + 10)) == ()


def test_a_repair_that_failed_is_not_begun_again_by_the_same_suspicion() -> None:
    state = turn(healing_cluster(), seen(unheard=12, age=13.0), NOW)
    state = turn(state, seen(unheard=30, age=30.0), NOW + SURE_SECONDS)
    now = NOW + SURE_SECONDS
    while not only_repair(state).status.is_terminal:
        now += 10
        assert now < NOW + 3000
        state = turn(state, seen(unheard=int(now - NOW), age=now - NOW), now)
    assert only_repair(state).status is RepairStatus.FAILED
    state = turn(state, seen(unheard=5000, age=5000.0), now + 5000)
    assert len(state.repairs) == 1


def test_new_guests_go_to_suspected_members_last() -> None:
    state = turn(healing_cluster(2), seen(age=13.0), NOW)
    wanted = workload(memory_mib=1000)
    state, _ = commit(state, PutWorkload(wanted))
    chosen = place(state, wanted)
    assert isinstance(chosen, Placement)
    assert chosen.member.id == "m1"
    last = place(state, wanted, avoid="m1")
    assert isinstance(last, Placement)
    assert last.member.id == "m2"


def test_the_leaders_plan_has_suspicions_in_it() -> None:
    state = healing_cluster()
    gossip = tuple(member for _, member in sorted(state.members.items()))
    observed = msgspec.structs.replace(seen(unheard=12), gossip=gossip)
    found = [c for c in reconcile_cluster(state, observed, NOW) if isinstance(c, SetSuspicion)]
    assert [(c.member_id, c.sources) for c in found] == [("m2", (RAFT,))]


@given(
    st.lists(
        st.tuples(
            st.floats(0.1, 20.0),
            st.one_of(st.none(), st.integers(2, 40)),
            st.one_of(st.none(), st.floats(0.0, 40.0)),
            st.sampled_from(list(MemberState)),
        ),
        max_size=60,
    )
)
def test_whatever_is_read_changes_are_few_and_no_two_repairs_are_open(
    readings: list[tuple[float, int | None, float | None, MemberState]],
) -> None:
    state, now = healing_cluster(), NOW
    changes: list[float] = []
    for wait, unheard, age, word in readings:
        now += wait
        state = died(state, "m2", now) if word is MemberState.DEAD else revived(state, "m2", now)
        by_gossip = GOSSIP in held(state), word is MemberState.DEAD
        before = state.suspicions.get("m2")
        state = turn(state, seen(unheard=unheard, age=age), now)
        after = state.suspicions.get("m2")
        if after != before and by_gossip[0] == by_gossip[1]:
            assert not changes or now - changes[-1] >= SETTLED_SECONDS
        if after != before:
            changes.append(now)
        assert sum(not repair.status.is_terminal for repair in state.repairs.values()) <= 1
        # What was read just now decides nothing against the member by itself.
        if held(state) == (RAFT,) and after is not None and now - after.since < ALONE_SECONDS:
            planned = reconcile_repairs(state, LeaderTime(now))
            assert not any(isinstance(command, OpenRepair) for command in planned)


def test_there_is_room_between_silence_and_a_word() -> None:
    assert HEARD_SECONDS < SILENT_SECONDS
