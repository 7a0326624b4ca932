"""`python -m benchmarks.consensus`: our consensus beside etcd's, our gossip beside Serf's."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from rich.console import Console

from benchmarks import consensus_speed, detection, namespace
from benchmarks.document import add_outputs, write_outputs
from benchmarks.figures import Section, any_missed, show
from benchmarks.machine import facts, first_line

INTRO = (
    "One run of `make bench-consensus`, on one machine: each member has a loopback address of its "
    "own in a network namespace, all write to the same disk. Written by the run itself."
)

BENCHMARKS: dict[str, Callable[[Path, Callable[[str], None]], AsyncIterator[Section]]] = {
    "consensus": consensus_speed.measure,
    "detection": detection.measure,
}
_PEERS = {"etcd": "etcd-server", "serf": "serf"}


def main() -> int:
    """Measure, print, and say by the exit code whether every aim was met."""
    arguments = _arguments()
    if missing := [package for name, package in _PEERS.items() if shutil.which(name) is None]:
        print(f"what ours is compared with is missing: apt install {' '.join(missing)}")
        return 2
    namespace.enter("benchmarks.consensus")
    return asyncio.run(_measure(arguments))


async def _measure(arguments: argparse.Namespace) -> int:
    console, progress = Console(), Console(stderr=True)
    told = facts("pysyncobj", "kinship", commands=["etcd"])
    told[-1] += f", serf {first_line('serf', 'version')}"
    console.print("\n".join(told), highlight=False)
    sections: list[Section] = []

    def say(text: str) -> None:
        progress.print(text, style="dim", highlight=False)

    for name in arguments.only or BENCHMARKS:
        folder = Path(tempfile.mkdtemp(prefix="sappers-bench-consensus-"))
        try:
            async for section in BENCHMARKS[name](folder, say):
                show(console, section)
                sections.append(section)
                write_outputs(arguments, "bench-consensus", INTRO, told, sections)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return int(any_missed(sections))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.consensus", description=__doc__)
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="some of them")
    add_outputs(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
