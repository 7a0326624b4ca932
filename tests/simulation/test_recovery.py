"""`raft recover`: what was given up does not go on beside what takes its place."""

from __future__ import annotations

import random

import pytest

from sappers.agent.leading import electorate
from sappers.model.commands import Command, CordonMember, PutWorkload, UncordonMember
from sappers.model.policy import FencingSettings
from sappers.model.workload import Workload
from tests.simulation import machine
from tests.simulation.clients import IMAGE, Client
from tests.simulation.founded import founded_world, leader_of
from tests.simulation.hosts import Host
from tests.simulation.run import World

SEED = 10  # three voters, and two more


def commit(world: World, at: Host, *commands: Command) -> None:
    client = Client(f"operator at {world.loop.time()}", world.loop, [at], (), random.Random(0))
    done = world.loop.create_task(client.submit(*commands))
    assert world._run_until(done.done, 10.0)
    assert done.result() is not None


def move_db(world: World, leader: Host, host: Host, memory_mib: int) -> None:
    """Have the exclusive guest run there, and nowhere else."""
    others = [one.name for one in world.hosts if one is not host]
    commit(world, leader, *(CordonMember(one, drain=False) for one in others))
    db = Workload("db", IMAGE, memory_mib=memory_mib, exclusive=True)
    commit(world, leader, PutWorkload(db))
    assert world._run_until(lambda: runs_db(host, memory_mib), 10.0)
    commit(world, leader, *(UncordonMember(one) for one in others))


def runs_db(host: Host, memory_mib: int) -> bool:
    return any(
        guest.is_running and guest.allocation.memory_mib == memory_mib
        for guest in host.guests.running.values()
        if guest.allocation.workload == "db"
    )


def test_an_exclusive_guest_of_a_history_that_is_given_up_ends_before_another_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Who is cordoned, so that the guest runs elsewhere, votes all the same.
    monkeypatch.setattr(electorate, "plan_electorate", lambda *_: None)
    monkeypatch.setattr(machine, "LEASE_SECONDS", FencingSettings().lease_seconds)
    with founded_world(SEED) as world:
        voters = world.watch.newest().electorate
        leader = world.around.hosts[leader_of(world)]
        survivor = next(one for one in world.hosts if one.name in voters and one is not leader)
        first, second = [one for one in world.hosts if one.name not in voters][:2]
        move_db(world, leader, first, 100)
        assert world._run_until(world._is_settled, 30.0)
        apart = [(survivor.name, one.name) for one in world.hosts if one is not survivor]
        world.network.cut |= {*apart, *((b, a) for a, b in apart)}
        move_db(world, leader, second, 200)
        world._run_until(lambda: False, 3.0)
        for host in [one for one in world.hosts if one.name in voters and one is not survivor]:
            host.lose_for_good()
            world.hosts.remove(host)
        world.network.cut.clear()
        alone = [(second.name, one.name) for one in world.hosts if one is not second]
        world.network.cut |= {*alone, *((b, a) for a, b in alone)}
        recovered = world.loop.create_task(world.faults.recover())
        assert world._run_until(recovered.done, 60.0)
        assert world.watch.given_up
        for _ in range(20):  # so that all see soon that theirs is not the newest state
            commit(world, survivor, CordonMember(first.name, drain=False))
            commit(world, survivor, UncordonMember(first.name))
        assert world._run_until(lambda: runs_db(first, 100), 30.0)
        world.network.cut.clear()
        assert world._run_until(world._is_settled, 60.0), world._why_not()
