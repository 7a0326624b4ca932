from __future__ import annotations

import hashlib
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.fetching import Fetch, FetchLimits, plan_fetches

CHUNKS = [hashlib.sha256(bytes([n])).hexdigest() for n in range(24)]
MEMBERS = [f"m{n}" for n in range(5)]
sets = st.frozensets(st.sampled_from(CHUNKS))
worlds = st.tuples(
    sets,
    st.dictionaries(st.sampled_from(MEMBERS), sets),
    st.dictionaries(st.sampled_from(CHUNKS), st.sampled_from(MEMBERS), max_size=6),
    st.builds(FetchLimits, st.integers(1, 10), st.integers(1, 4)),
)
World = tuple[frozenset[str], dict[str, frozenset[str]], dict[str, str], FetchLimits]


def copies(world: World, chunk: str) -> int:
    missing, holders, _, _ = world
    return sum(chunk in has & missing for has in holders.values())


@given(worlds)
def test_a_plan_keeps_to_the_limits_and_asks_holders_for_what_is_missing(world: World) -> None:
    missing, holders, under_way, limits = world
    plan = plan_fetches("me", *world)
    chunks = [fetch.chunk for fetch in plan]
    assert len(set(chunks)) == len(chunks)
    assert not set(chunks) & under_way.keys()
    assert set(chunks) <= missing
    assert all(fetch.chunk in holders[fetch.member_id] for fetch in plan)
    assert not plan or len(plan) + len(under_way) <= limits.at_once
    load = Counter([*under_way.values(), *(fetch.member_id for fetch in plan)])
    assert all(load[fetch.member_id] <= limits.per_member for fetch in plan)


@given(worlds)
def test_no_slot_stays_free_that_could_be_used(world: World) -> None:
    missing, holders, under_way, limits = world
    plan = plan_fetches("me", *world)
    if len(plan) + len(under_way) >= limits.at_once:
        return
    load = Counter([*under_way.values(), *(fetch.member_id for fetch in plan)])
    left = missing - under_way.keys() - {fetch.chunk for fetch in plan}
    for member_id, has in holders.items():
        assert load[member_id] >= limits.per_member or not left & has


@given(worlds)
def test_the_rarest_come_first(world: World) -> None:
    counts = [copies(world, fetch.chunk) for fetch in plan_fetches("me", *world)]
    assert counts == sorted(counts)


@given(worlds)
def test_nothing_rarer_is_passed_over_that_its_holder_had_a_slot_for(world: World) -> None:
    missing, holders, under_way, limits = world
    plan = plan_fetches("me", *world)
    if not plan:
        return
    load = Counter([*under_way.values(), *(fetch.member_id for fetch in plan)])
    left = missing - under_way.keys() - {fetch.chunk for fetch in plan}
    commonest = max(copies(world, fetch.chunk) for fetch in plan)
    for member_id, has in holders.items():
        if load[member_id] < limits.per_member:
            assert all(copies(world, chunk) >= commonest for chunk in left & has)


@given(worlds)
def test_the_same_world_gives_the_same_plan(world: World) -> None:
    assert plan_fetches("me", *world) == plan_fetches("me", *world)


def test_load_is_shared_among_holders() -> None:
    everything = frozenset(CHUNKS)
    plan = plan_fetches(
        "me", everything, dict.fromkeys(MEMBERS, everything), {}, FetchLimits(10, 4)
    )
    assert Counter(fetch.member_id for fetch in plan) == dict.fromkeys(MEMBERS, 2)


def test_members_begin_with_different_chunks() -> None:
    everything = frozenset(CHUNKS)
    firsts = {
        plan_fetches(f"host{n}", everything, {"m1": everything}, {}, FetchLimits(1, 1))
        for n in range(16)
    }
    assert len(firsts) >= 6


def test_a_lone_copy_comes_before_what_many_have() -> None:
    rare, common = sorted(CHUNKS[:2])
    holders = {"m0": frozenset({rare, common}), "m1": frozenset({common})}
    for me in ("a", "b", "c", "d"):
        plan = plan_fetches(me, {rare, common}, holders, {}, FetchLimits(1, 1))
        assert plan == (Fetch(rare, "m0"),)
