"""Voters that crash, lose power and are cut off, on a simulated clock, network and disk."""

from __future__ import annotations

import pytest

from tests.unit.raft_worlds import NewWorld, new_world

__all__ = ["new_world"]


def test_a_quiet_cluster_elects_once_and_commits(new_world: NewWorld) -> None:
    world = new_world(seed=1)
    world.settle()
    for _ in range(10):
        world.propose()
        world.step()
    world.settle()
    world.check()
    assert len(world.acknowledged()) == 10
    assert len(world.leaders) == 1


@pytest.mark.parametrize("seed", range(12))
def test_crashes_and_cuts_lose_nothing(new_world: NewWorld, seed: int) -> None:
    world = new_world(seed, voters=3 if seed % 3 else 5)
    chance = world.chance
    for _ in range(1500):
        world.step()
        if chance.random() < 0.4:
            world.propose()
        if chance.random() < 0.02 and world.running:
            world.crash(chance.choice(sorted(world.running)))
        if chance.random() < 0.05:
            stopped = [voter for voter in world.voters if voter not in world.running]
            if stopped:
                world.start(chance.choice(stopped))
        if chance.random() < 0.02:
            a, b = chance.sample(world.voters, 2)
            world.network.set_link(a, b, up=False)
        if chance.random() < 0.03 and world.network.cut:
            a, b = sorted(chance.choice(sorted(world.network.cut, key=sorted)))
            world.network.set_link(a, b, up=True)
    world.settle()
    world.check()
    assert world.acknowledged()
