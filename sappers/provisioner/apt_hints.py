"""What to do about what apt says."""

from __future__ import annotations


def hint_for(output: str) -> str | None:
    """What to do about what apt says, where that is known."""
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
