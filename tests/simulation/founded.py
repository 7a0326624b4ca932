"""A simulated cluster from its founding on, for tests that say themselves what happens to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.simulation.determinism import deterministic
from tests.simulation.loop import VirtualLoop
from tests.simulation.run import FOUNDED_WITHIN_SECONDS, World


@contextmanager
def founded_world(seed: int) -> Iterator[World]:
    """All hosts run and nothing fails by itself; no invariant may have been broken at the end."""
    loop = VirtualLoop()
    with deterministic(loop, seed, None):
        world = World(seed, loop)
        for host in world.hosts:
            host.boot()
        loop.create_task(world._want_workloads())
        assert world._run_until(world._is_founded, FOUNDED_WITHIN_SECONDS), world._why_not()
        yield world
        assert not world.watch.violations
        loop.close()


def leader_of(world: World) -> str:
    """Who was elected last."""
    return world.watch.leaders[max(world.watch.leaders)]
