"""The simulation itself: seeds replay exactly, and it finds what the mends of the layer mend."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.mends import MENDS
from tests.simulation.run import run_seed

SEEDS_TO_FIND_IT = 120


@pytest.mark.parametrize("more", [(), ("--healing",)], ids=["bare", "healing"])
def test_a_seed_replays_exactly_whatever_the_hashes_are(more: tuple[str, ...]) -> None:
    def replay(hash_seed: str) -> str:
        command = (sys.executable, "-m", "tests.simulation", "--seed", "13", "-v", *more)
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        return done.stdout

    assert replay("1") == replay("2")


def test_a_transcript_changes_nothing() -> None:
    assert run_seed(14).digest == run_seed(14, transcript=True).digest


@pytest.mark.parametrize("mend", MENDS, ids=lambda mend: mend.name)
def test_without_a_mend_a_seed_fails(mend: object) -> None:
    with mend.switched_off():
        found = (run_seed(seed, kinds=mend.kinds) for seed in range(SEEDS_TO_FIND_IT))
        said = next((report.violations[0] for report in found if report.violations), "")
    assert mend.finding in said
