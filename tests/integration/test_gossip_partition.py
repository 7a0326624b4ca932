"""Gossip that was cut in two, until each half took the other for dead, is one again by itself.

The scenario runs in a network namespace of its own: this file, as a script.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.integration.test_membership import ALIVE, DEAD, Group, sees
from tests.waiting import eventually

A, B, C = "127.0.0.2", "127.0.0.3", "127.0.0.4"
SECONDS = 120.0
# Connections on loopback do not come from the member's own address: the two halves have none.
CUT = f"""
table inet cut {{
  chain input {{
    type filter hook input priority filter;
    ip saddr {{ {A}, {B} }} ip daddr {C} drop
    ip saddr {C} ip daddr {{ {A}, {B} }} drop
    meta l4proto tcp drop
  }}
}}
"""

pytestmark = [
    pytest.mark.timeout(1000),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a network namespace"),
    pytest.mark.skipif(not shutil.which("nft"), reason="needs nftables"),
]


def test_a_healed_partition_merges_again() -> None:
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "tests.integration.test_gossip_partition"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr[-3000:]


async def scenario(folder: Path) -> None:
    group = Group(folder)
    a, b = await group.start("a", A), await group.start("b", B, A)
    c = await group.start("c", C, A)
    for one in (a, b, c):
        await eventually(sees(one, a=ALIVE, b=ALIVE, c=ALIVE), SECONDS)
    nft(CUT)
    await eventually(sees(a, a=ALIVE, b=ALIVE, c=DEAD), SECONDS)
    await eventually(sees(c, a=DEAD, b=DEAD, c=ALIVE), SECONDS)
    nft("delete table inet cut")
    for one in (a, b, c):
        await eventually(sees(one, a=ALIVE, b=ALIVE, c=ALIVE), SECONDS)
    for one in (a, b, c):
        await group.stop(one)


def nft(rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def main() -> int:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    try:
        nft("table inet cut {}\ndelete table inet cut")
    except subprocess.CalledProcessError:
        print("nftables do not work in a network namespace here")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
