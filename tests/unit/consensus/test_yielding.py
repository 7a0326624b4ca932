"""A leader whose agent hangs: voters on a simulated clock and network."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from sappers.consensus.yielding import AgentSilence, choose_successor
from tests.unit.raft_worlds import NewWorld, World, new_world

__all__ = ["new_world"]

LONG = 60.0


def founded(new_world: NewWorld) -> World:
    world = new_world(seed=5)
    world.found()
    world.settle()
    return world


def silence(world: World, *voters: str, seconds: float = LONG) -> None:
    for one in voters:
        world.running[one].node.agent_silence = lambda _: seconds


def others(world: World, leader: str) -> list[str]:
    return [one for one in world.running if one != leader]


def moved(world: World, old: str) -> Callable[[], bool]:
    return lambda: bool(world.leaders_now()) and world.leaders_now()[0].me != old


def test_it_hands_over_and_everything_acknowledged_stays(new_world: NewWorld) -> None:
    world = founded(new_world)
    names, old = [world.write() for _ in range(5)], world.leader().me
    silence(world, old)
    world.run_until(moved(world, old))
    new = world.leader()
    assert new.me != old
    names.append(world.write())
    assert set(names) <= set(new.node.state.workloads)


def test_before_its_time_is_up_it_leads(new_world: NewWorld) -> None:
    world = founded(new_world)
    old, patience = world.leader().me, world.settings.agent_silence_seconds
    silence(world, *world.running, seconds=patience - 0.01)
    for _ in range(1000):
        world.step()
    assert world.leader().me == old


def test_who_hangs_as_well_is_passed_over(new_world: NewWorld) -> None:
    world = founded(new_world)
    old = world.leader().me
    hanging, well = others(world, old)
    silence(world, old, hanging)
    world.run_until(lambda: [one.me for one in world.leaders_now()] == [well], steps=10_000)


def test_where_all_hang_it_goes_on_leading(new_world: NewWorld) -> None:
    world = founded(new_world)
    old = world.leader().me
    silence(world, *world.running)
    terms = len(world.leaders)
    for _ in range(6000):
        world.step()
    assert (world.leader().me, len(world.leaders)) == (old, terms)


def test_who_hangs_begins_no_election(new_world: NewWorld) -> None:
    world = founded(new_world)
    old = world.leader().me
    hanging, well = others(world, old)
    silence(world, hanging)
    world.crash(old)
    assert world.leader().me == well


@given(st.lists(st.tuples(st.floats(0.0, 1e6), st.booleans()), max_size=50))
def test_silence_never_counts_more_than_was_looked_at(steps: list[tuple[float, bool]]) -> None:
    it, now, quiet, looks = AgentSilence(), 0.0, 0.0, 0
    it.seconds(now)
    for passed, spoke in steps:
        now += passed
        if spoke:
            it.end()
            quiet, looks = 0.0, 0
        quiet, looks = quiet + passed, looks + 1
        counted = it.seconds(now)
        assert 0.0 <= counted <= min(quiet, 0.5 * looks) + 1e-6


names = st.lists(st.sampled_from("abcde"), unique=True)


@given(names, st.sets(st.sampled_from("abcde")))
def test_each_is_asked_once_the_nearest_first(connected: list[str], asked: set[str]) -> None:
    chosen = choose_successor(connected, asked)
    left = [one for one in connected if one not in asked]
    assert chosen == (left[0] if left else None)
