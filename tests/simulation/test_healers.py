"""Healers in the simulation: agents that stay down come back, by one healer at a time."""

from __future__ import annotations

from tests.simulation.run import run_seed

SEEDS = 6


def test_whatever_else_fails_agents_that_stay_down_are_repaired_one_healer_at_a_time() -> None:
    kinds = ("kill_agent", "hang", "halves", "isolate", "power", "pause", "weather", "clock")
    reports = [run_seed(seed, kinds=kinds, healing=True) for seed in range(SEEDS)]
    assert not [one.violations for one in reports if one.violations]
    assert sum(one.facts["repairs"] for one in reports)
