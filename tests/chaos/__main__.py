"""`python -m tests.chaos [--minutes N] [--seed N]`: a lab of five hosts, tormented."""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sappers.config import ControlHome, control_home
from sappers.lab.lab import Lab
from tests.chaos.run import Outcome, run
from tests.e2e.lab_cluster import LabCluster

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
    with tempfile.TemporaryDirectory(prefix="sappers-chaos-") as folder:
        home = ControlHome(data=Path(folder), cache=control_home(os.environ).cache)
        lab = Lab(LAB_NAME, home)
        try:
            lab.up(arguments.hosts)
            for command in (("image", "build", "hello"), ("bootstrap", str(lab.inventory))):
                _deploy(home, *command)
            cluster = LabCluster(lab, home)
            cluster.await_whole()
            outcome = run(
                cluster,
                arguments.seed,
                60 * arguments.minutes,
                lambda text: console.print(text, style="dim", highlight=False),
            )
        finally:
            lab.down()
    show(console, outcome)
    return int(bool(outcome.wrong))


def show(console: Console, outcome: Outcome) -> None:
    """The run as a table, and what was wrong with it."""
    table = Table(box=None)
    for name in ("fault", "times", "longest until whole"):
        table.add_column(name, justify="left" if name == "fault" else "right")
    for fault in sorted({name for name, *_ in outcome.struck}):
        until_whole = [mended for name, _, _, mended in outcome.struck if name == fault]
        table.add_row(fault, str(len(until_whole)), f"{max(until_whole):.1f} s")
    console.print(table, highlight=False)
    record = outcome.record
    console.print(
        f"writes: {len(record.acknowledged)} acknowledged, {record.refused} refused, "
        f"{record.unknown} unknown; reads: {record.reads}; longest time without an acknowledged "
        f"write: {outcome.longest_silence:.1f} s",
        highlight=False,
    )
    for problem in outcome.wrong:
        console.print(problem, style="bold red", highlight=False)
    if not outcome.wrong:
        console.print(
            "Nothing acknowledged was lost, no linearizable read was stale.", style="green"
        )


def _deploy(home: ControlHome, *arguments: str) -> None:
    environment = {"SAPPERS_HOME": str(home.data), "SAPPERS_CACHE": str(home.cache)}
    program = Path(sys.executable).with_name("sappers-deploy")
    subprocess.run(
        [program, *arguments],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        check=True,
    )


if __name__ == "__main__":
    sys.exit(main())
