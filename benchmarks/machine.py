"""What one must know of the machine to read figures that were taken on it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def facts(*packages: str, commands: Sequence[str] = ()) -> list[str]:
    """Date, commit, size and load of this machine, and versions of what is measured."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    commit = first_line("git", "rev-parse", "--short", "HEAD")
    versions = [
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}",
        *(first_line(command, "--version").rstrip() for command in commands),
        *(f"{package} {version(package)}" for package in packages),
    ]
    return [
        f"date: {datetime.now(UTC):%Y-%m-%d}, commit {commit}",
        f"machine: {os.cpu_count()} cores ({_model()}), {memory_gib:.0f} GiB; load before: {load}",
        f"versions: {', '.join(versions)}",
    ]


def first_line(*argv: str) -> str:
    """The first line that a command prints."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def _model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()
