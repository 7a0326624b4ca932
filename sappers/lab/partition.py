"""Cuts in a lab's network: hosts that do not hear each other, as after a broken switch."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from sappers.errors import LabError

_TABLE = "inet sappers_lab"


def deafen(leader: int, addresses: Sequence[str]) -> None:
    """Let the container of process `leader` hear nothing from `addresses`; none ends the cut.

    Packets are dropped silently, those of open connections too. Replaces an earlier cut.

    Raises:
        LabError: nft refuses.
    """
    rules = f"add table {_TABLE}\ndelete table {_TABLE}\n"
    if addresses:
        rules += (
            f"add table {_TABLE}\n"
            f"add chain {_TABLE} incoming {{ type filter hook input priority -300; }}\n"
            f"add rule {_TABLE} incoming ip saddr {{ {', '.join(addresses)} }} drop\n"
        )
    finished = subprocess.run(
        ["nsenter", f"--target={leader}", "--net", "nft", "--file", "-"],
        input=rules, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if finished.returncode:
        raise LabError(
            f"cannot cut the network: {finished.stderr.strip()}", hint="run `make setup`"
        )
