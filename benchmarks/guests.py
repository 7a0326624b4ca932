"""`python -m benchmarks.guests`: how fast guests start, on a lab of one host."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from benchmarks.document import add_outputs, write_outputs
from benchmarks.figures import Section, any_missed, show
from benchmarks.guest_speed import GuestSpeed
from benchmarks.machine import facts
from benchmarks.nanos import nanos_problem
from benchmarks.rig import Rig

LAB_NAME = "bench-guests"
INTRO = "One run of `make bench-guests`, on a lab of one host. Written by the run itself."


def main() -> int:
    """Measure, print, and say by the exit code whether every aim was met."""
    arguments = _arguments()
    console, progress = Console(), Console(stderr=True)
    told = facts(commands=["qemu-system-x86_64"])
    if problem := nanos_problem():
        told.append(problem)
    console.print("\n".join(told), highlight=False)
    sections: list[Section] = []

    def say(text: str) -> None:
        progress.print(text, style="dim", highlight=False)

    with Rig.open(say, arguments.lab, 1) as rig:
        rig.bootstrap()
        for name, kind in _images(rig):
            for section in GuestSpeed(rig, name, kind).measure():
                show(console, section)
                sections.append(section)
                # At once, so that what fails later takes nothing away.
                write_outputs(arguments, "bench-guests", INTRO, told, sections)
    return int(any_missed(sections))


def _images(rig: Rig) -> list[tuple[str, str]]:
    """Builds hello; stored name and kind of each."""
    rig.say("building hello, or finding it built")
    rig.deploy("image", "build", "hello")
    if nanos_problem():
        return [("hello", "microvm")]
    rig.deploy("image", "build", "hello", "--kind", "nanos")
    return [("hello", "microvm"), ("hello-nanos", "nanos")]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guests", description=__doc__)
    parser.add_argument("--lab", default=LAB_NAME, help="what to call the lab")
    add_outputs(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
