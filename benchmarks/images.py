"""`python -m benchmarks.images`: how images travel, on a lab that grows from one host to eight."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from benchmarks import image_rebuild
from benchmarks.document import add_outputs, write_outputs
from benchmarks.figures import Section, any_missed, show
from benchmarks.image_spread import Spread, measure_open
from benchmarks.machine import facts
from benchmarks.rig import Rig

HOSTS = (1, 4, 8)
LAB_NAME = "bench-images"
INTRO = (
    "One run of `make bench-images`, on a lab of its own on one machine, which grows from one host "
    "to eight. Written by the run itself."
)


def main() -> int:
    """Measure, print, and say by the exit code whether every aim was met."""
    arguments = _arguments()
    console, progress = Console(), Console(stderr=True)
    told = facts("zstandard")
    console.print("\n".join(told), highlight=False)
    sections: list[Section] = []
    say = lambda text: progress.print(text, style="dim", highlight=False)  # noqa: E731
    with Rig.open(say, arguments.lab, arguments.hosts[0]) as rig:
        spread = Spread()
        for count in arguments.hosts:
            if count > rig.hosts:
                rig.grow(count)
            rig.bootstrap()
            if count == 1:
                sections += [measure_open(rig), image_rebuild.measure(rig)]
            spread.measure(rig)
        sections.append(spread.section())
    for section in sections:
        show(console, section)
    write_outputs(arguments, "bench-images", INTRO, told, sections)
    return int(any_missed(sections))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images", description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=HOSTS, help="numbers, growing")
    parser.add_argument("--lab", default=LAB_NAME, help="what to call the lab")
    add_outputs(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
