"""A voter that comes back with less than it had votes no more, and nothing acknowledged is lost."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from sappers.agent.voting.seat import DOUBT_SECONDS
from sappers.model.commands import CordonMember
from tests.simulation.clients import Client
from tests.simulation.founded import founded_world, leader_of
from tests.simulation.hosts import Host

SEED = 3  # three voters, and nobody to take a place; the founder follows


def lose_genesis(host: Host) -> None:
    host.disk._files.pop(f"{host.name}/genesis.json")


def lose_disk(host: Host) -> None:
    host.disk._files.clear()


@pytest.mark.parametrize("lose", [lose_genesis, lose_disk])
@pytest.mark.parametrize("is_founder", [False, True])
def test_what_two_of_three_acknowledged_is_not_lost_with_the_disk_of_one(
    lose: Callable[[Host], None], is_founder: bool
) -> None:
    with founded_world(SEED) as world:
        assert len(world.hosts) == 3 == len(world.watch.newest().electorate)
        assert world._run_until(world._is_settled, 60.0)
        founder, leader = world.around.hosts["m1"], world.around.hosts[leader_of(world)]
        others = [host for host in world.hosts if host is not leader]
        assert founder is not leader
        loses, away = sorted(others, key=lambda host: (host is founder) is not is_founder)
        away.lose_power()
        operator = Client("operator", world.loop, [leader], (), random.Random(0))
        acknowledged = world.loop.create_task(operator.submit(CordonMember(away.name, drain=False)))
        assert world._run_until(acknowledged.done, 10.0)
        index = acknowledged.result().index
        leader.lose_power()
        loses.lose_power()
        lose(loses)
        loses.boot()
        away.boot()
        terms = len(world.watch.leaders)
        world._run_until(lambda: False, 2 * DOUBT_SECONDS)
        assert len(world.watch.leaders) == terms, "one of three is no majority"
        assert loses.trouble
        leader.boot()
        assert world._run_until(lambda: away.agent.log.state().index > index, 20.0)
        # That it is the entry which was acknowledged, the watch looks at.
        assert loses.trouble
