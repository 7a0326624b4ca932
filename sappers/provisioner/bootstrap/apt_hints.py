"""What to do about what apt and dpkg say. Pure."""

from __future__ import annotations

import re

# apt: "It is held by process 12 (apt-get)"; dpkg: "was locked by another process with pid 12".
_LOCKED = re.compile(
    r"held by process (\d+)(?: \(([^)]+)\))?|locked by another process with pid (\d+)"
)


def find_lock_holder(output: str) -> tuple[int, str] | None:
    """The process that keeps apt or dpkg from working, by their own words, and its name if told."""
    found = _LOCKED.search(output)
    return (int(found[1] or found[3]), found[2] or "") if found else None


def hint_for(output: str) -> str | None:
    """What to do about it, where that is known."""
    holder = find_lock_holder(output)
    if holder is not None:
        return (
            f"{describe(*holder)} works on packages there since minutes; wait for it or end it, "
            "then run this again"
        )
    if "No space left" in output or "enough free space" in output:
        return "make room on the host, then run this again: it goes on where it stopped"
    if any(
        word in output for word in ("Failed to fetch", "Could not resolve", "Could not connect")
    ):
        return (
            "install apt-cacher-ng on this machine: hosts without internet get packages through "
            "it; their sources must use http"
        )
    return None


def describe(pid: int, name: str) -> str:
    """A process, for people."""
    return f"process {pid}, {name}" if name else f"process {pid}"
