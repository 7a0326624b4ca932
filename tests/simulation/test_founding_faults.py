"""Founding while disks are full, or fail: the cluster is founded once, as soon as they work."""

from __future__ import annotations

import random

import pytest

from tests.simulation.determinism import deterministic
from tests.simulation.loop import VirtualLoop
from tests.simulation.run import FOUNDED_WITHIN_SECONDS, World


@pytest.mark.parametrize("failing", [0.0, 0.5], ids=["full", "failing"])
@pytest.mark.parametrize("seed", range(6))
def test_a_cluster_is_founded_once_its_disks_take_it(seed: int, failing: float) -> None:
    loop, chance = VirtualLoop(), random.Random(f"founding/{seed}/{failing}")
    with deterministic(loop, seed, None):
        world = World(seed, loop)
        for host in world.hosts:
            host.boot()
            began = chance.uniform(0.0, 4.0)
            loop.call_later(began, setattr, host.disk, "is_full", not failing)
            loop.call_later(began, setattr, host.disk, "failing", failing)
        world._run_until(lambda: False, 10.0)
        for host in world.hosts:
            host.disk.is_full, host.disk.failing = False, 0.0
        loop.create_task(world._want_workloads())
        assert world._run_until(world._is_founded, FOUNDED_WITHIN_SECONDS), world._why_not()
        assert not world.watch.violations
        loop.close()
