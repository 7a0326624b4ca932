"""Which format the log may have."""

from __future__ import annotations

import immutables
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.formats import members_behind, plan_format
from sappers.decisions.reconcile_cluster import reconcile_cluster
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import AdoptFormat, RegisterMember
from sappers.model.member import Member, MemberState
from sappers.model.observation import MemberObservation
from tests.unit.worlds import member


def known_to(number: int, known: int, state: MemberState = MemberState.ALIVE) -> Member:
    return member(number, log_format=known, state=state)


def world(*numbers: int, log: int = 0, revoked: tuple[int, ...] = ()) -> ClusterState:
    return ClusterState(
        cluster_id="c",
        format=log,
        members=immutables.Map({f"m{one}": member(one) for one in numbers}),
        revoked=immutables.Map({f"m{one}": 1.0 for one in revoked}),
    )


def test_it_is_adopted_once_all_know_it_and_as_far_as_they_do() -> None:
    state = world(1, 2, 3)
    all_new = [known_to(1, 2), known_to(2, 1), known_to(3, 3)]
    assert plan_format(state, all_new) == [AdoptFormat(1)]
    assert plan_format(world(1, 2, 3, log=1), all_new) == []
    assert plan_format(state, [*all_new[:2], known_to(3, 0)]) == []


def test_who_may_come_back_with_what_it_was_counts_until_it_is_forgotten() -> None:
    here = [known_to(1, 1), known_to(2, 1)]
    for gone in (MemberState.DEAD, MemberState.LEFT, MemberState.SUSPECT):
        old = known_to(3, 0, gone)
        assert plan_format(world(1, 2, 3), [*here, old]) == []
        assert members_behind(world(1, 2, 3), [*here, old], 1) == (old,)
    assert plan_format(world(1, 2, 3), here) == [], "nobody knows what m3 knows"
    assert plan_format(world(1, 2), here) == [AdoptFormat(1)]
    assert plan_format(world(1, 2), [*here, known_to(3, 0, MemberState.DEAD)]) == [AdoptFormat(1)]
    assert plan_format(world(1, 2, 3, revoked=(3,)), here) == [AdoptFormat(1)]


def test_a_newcomer_of_an_earlier_version_is_counted_before_and_not_let_in_after() -> None:
    gossip = (known_to(1, 1), known_to(2, 1), known_to(3, 0))
    observed = MemberObservation(gossip=gossip)
    before = reconcile_cluster(world(1, 2), observed, 0.0)
    assert RegisterMember(member(3)) in before
    assert not any(isinstance(one, AdoptFormat) for one in before)
    after = reconcile_cluster(world(1, 2, log=1), observed, 0.0)
    assert not any(isinstance(one, RegisterMember) for one in after)


_SEEN = st.tuples(st.integers(0, 3), st.sampled_from(MemberState))


@given(
    st.sets(st.integers(1, 6)),
    st.sets(st.integers(1, 6)),
    st.dictionaries(st.integers(1, 6), _SEEN),
    st.integers(0, 3),
)
def test_whoever_is_a_member_knows_what_is_adopted(
    members: set[int], revoked: set[int], seen: dict[int, tuple[int, MemberState]], log: int
) -> None:
    state = world(*members, log=log, revoked=tuple(revoked))
    gossip = [known_to(number, *what) for number, what in seen.items()]
    plan = plan_format(state, gossip)
    for adopted in plan:
        assert adopted.format > log
        assert not members_behind(state, gossip, adopted.format)
        for number in members - revoked:
            assert seen[number][0] >= adopted.format
        applied = msgspec.structs.replace(state, format=adopted.format)
        assert plan_format(applied, gossip) == []
