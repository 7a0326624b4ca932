"""A voter that was added is not there yet when another one is lost: all wait for it alone."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from sappers.decisions.electorate import SETTLED_AFTER_SECONDS
from sappers.model.commands import CordonMember
from tests.simulation.clients import Client
from tests.simulation.founded import founded_world, leader_of
from tests.simulation.run import World

SEEDS = (6, 10, 12, 14)
LEADING_WITHIN_SECONDS = 40.0


@pytest.fixture(params=SEEDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Three voters and more members."""
    with founded_world(request.param) as world:
        assert len(world.watch.newest().electorate) == 3 < len(world.hosts)
        world._run_until(lambda: False, 1 + SETTLED_AFTER_SECONDS)
        yield world


def cut_off(world: World, names: set[str]) -> set[tuple[str, str]]:
    """No packet between these and the others; the links, to be put right with."""
    others = {host.name for host in world.hosts} - names
    links = {link for a in names for b in others for link in ((a, b), (b, a))}
    world.network.cut |= links
    return links


def test_one_that_missed_its_vote_learns_of_it_from_voters_without_a_leader(world: World) -> None:
    leader = leader_of(world)
    lead = world.around.hosts[leader]
    voters = {*world.watch.newest().electorate}
    links = cut_off(world, {host.name for host in world.hosts} - voters)
    drained = min(voters - {leader})
    operator = Client("operator of the leader", world.loop, [lead], (), random.Random(0))
    world.loop.create_task(operator.submit(CordonMember(drained, drain=True)))
    assert world._run_until(lambda: len(world.watch.newest().electorate) == 4, 2.0)
    lead.lose_power()
    terms = len(world.watch.leaders)
    world._run_until(lambda: False, 4.0)
    assert len(world.watch.leaders) == terms, "two of four are no majority"
    world.network.cut -= links
    assert world._run_until(lambda: len(world.watch.leaders) > terms, LEADING_WITHIN_SECONDS)
    assert world._run_until(
        lambda: drained not in world.watch.newest().electorate, LEADING_WITHIN_SECONDS
    )
