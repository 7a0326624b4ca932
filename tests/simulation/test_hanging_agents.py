"""Agents that hang while their raft processes go on: leadership moves, once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.founded import founded_world, leader_of
from tests.simulation.run import World

MOVED_WITHIN_SECONDS = 12.0


@pytest.fixture(params=range(4))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with founded_world(request.param) as world:
        yield world


def run(world: World, seconds: float) -> None:
    world._run_until(lambda: False, seconds)


def hang(world: World, name: str, seconds: float) -> None:
    world.around.hosts[name].hang(seconds)


def test_another_leads_and_goes_on_leading(world: World) -> None:
    first = leader_of(world)
    hang(world, first, 40.0)
    assert world._run_until(lambda: leader_of(world) != first, MOVED_WITHIN_SECONDS)
    terms = len(world.watch.leaders)
    run(world, 60.0)  # it is heard again meanwhile
    assert len(world.watch.leaders) == terms, "leadership goes to and fro"
    assert world._run_until(world._is_settled, 10.0), world._why_not()


def test_who_hangs_as_well_does_not_take_it(world: World) -> None:
    first = leader_of(world)
    voters = sorted({*world.watch.states[max(world.watch.states)].electorate} - {first})
    for name in (first, *voters[1:]):
        hang(world, name, 40.0)
    assert world._run_until(lambda: leader_of(world) == voters[0], 3 * MOVED_WITHIN_SECONDS)
    assert len(world.watch.leaders) <= 2, "leadership goes to and fro"


def test_where_all_hang_nothing_moves(world: World) -> None:
    terms = len(world.watch.leaders)
    for host in world.hosts:
        host.hang(30.0)
    run(world, 32.0)
    assert len(world.watch.leaders) <= terms + 1
    assert world._run_until(world._is_settled, 30.0), world._why_not()


def test_a_host_that_stands_still_for_a_moment_keeps_its_leader_if_it_can(world: World) -> None:
    """What the raft process did not see either is no silence of its agent."""
    terms = len(world.watch.leaders)
    for host in world.hosts:  # as on one machine without a processor for all of them
        host.pause(20.0, whole=True)
    run(world, 22.0)
    assert len(world.watch.leaders) <= terms + 1
