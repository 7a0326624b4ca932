"""`python -m tests.chaos [--minutes N] [--seed N]`: a lab of five hosts, tormented."""

from __future__ import annotations

import argparse
import random
import sys

from rich.console import Console

from tests.chaos.hosts import cluster_on
from tests.chaos.report import show
from tests.chaos.run import run

HOSTS = 5
LAB_NAME = "chaos"


def main() -> int:
    """Torment, show, and say by the exit code whether every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--hosts", type=int, default=HOSTS)
    arguments = parser.parse_args()
    console = Console()
    console.print(f"seed {arguments.seed}", highlight=False)

    def say(text: str) -> None:
        console.print(text, style="dim", highlight=False)

    with cluster_on(LAB_NAME, arguments.hosts) as cluster:
        outcome = run(cluster, arguments.seed, 60 * arguments.minutes, say)
    show(console, outcome)
    return int(bool(outcome.wrong))


if __name__ == "__main__":
    sys.exit(main())
