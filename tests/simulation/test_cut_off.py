"""Hosts that hear nobody for long: whoever leads once they do blames nobody for that time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sappers.decisions.suspicion import HEARD_SECONDS, PULSE_SECONDS, SILENT_SECONDS
from tests.simulation.founded import founded_world
from tests.simulation.run import World

CUT_OFF_SECONDS = 149.0


@pytest.fixture(params=range(3))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with founded_world(request.param) as world:
        yield world


def pulses_missed(world: World) -> list[str]:
    events = world.watch.newest().events
    return [one.text for one in events if one.kind == "member.suspected" and "pulse" in one.text]


def cut_all_off(world: World) -> None:
    world._run_until(lambda: False, 2 * PULSE_SECONDS)  # all are heard
    hosts = [host.name for host in world.hosts]
    world.network.cut |= {(a, b) for a in hosts for b in hosts if a != b}
    world._run_until(lambda: False, CUT_OFF_SECONDS)


def test_a_leader_that_was_cut_off_counts_silence_from_the_healing_on(world: World) -> None:
    cut_all_off(world)
    world.network.cut.clear()
    world._run_until(lambda: False, 2 * SILENT_SECONDS)
    assert pulses_missed(world) == []
    assert world._run_until(world._is_settled, 30.0), world._why_not()


def test_who_died_meanwhile_is_found_and_nobody_else(world: World) -> None:
    cut_all_off(world)
    dead = world.hosts[-1]
    dead.lose_power()
    world.network.cut.clear()
    assert world._run_until(lambda: bool(pulses_missed(world)), SILENT_SECONDS + HEARD_SECONDS)
    assert {text.split()[0] for text in pulses_missed(world)} == {dead.name}
