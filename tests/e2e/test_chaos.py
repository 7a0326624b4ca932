"""Five hosts for three minutes: the seeded part of `make chaos`."""

from __future__ import annotations

import pytest
from rich.console import Console

from tests.chaos.hosts import cluster_on
from tests.chaos.report import show
from tests.chaos.run import run
from tests.e2e.conftest import LAB_NAME

SEED = 20261
MINUTES = 3.0


@pytest.mark.timeout(900)
def test_no_fault_loses_what_was_acknowledged_or_shows_what_is_over(capsys):
    with cluster_on(f"{LAB_NAME}-chaos", 5) as cluster:
        outcome = run(cluster, SEED, 60 * MINUTES, print)
    with capsys.disabled():
        print()
        show(Console(), outcome)
    assert not outcome.wrong
    assert len(outcome.record.acknowledged) > 100
    assert outcome.record.reads > 100
