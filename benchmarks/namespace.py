"""A network namespace of this run's own: a loopback that may lose packets and lose hosts.

Every address of 127.0.0.0/8 stands for a host. What nftables does here, nobody else feels.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_INSIDE = "SAPPERS_BENCHMARK_NAMESPACE"
_TABLE = "inet benchmark"


def enter(module: str) -> None:
    """Go on in a namespace of its own; the process is replaced by itself inside it, once."""
    if os.environ.get(_INSIDE) == "1":
        return
    os.environ[_INSIDE] = "1"
    again = [sys.executable, "-m", module, *sys.argv[1:]]
    up = 'ip link set lo up && exec "$@"'
    os.execvp("unshare", ["unshare", "--net", "--", "sh", "-c", up, "sh", *again])


@contextmanager
def losing(percent: int) -> Iterator[None]:
    """A block in which so many of 100 packets are lost, whoever sends them."""
    with _dropping(f"numgen random mod 100 < {percent}"):
        yield


@contextmanager
def unplugged(*addresses: str) -> Iterator[None]:
    """A block in which nothing comes from these addresses or gets there: no refusal either."""
    members = ", ".join(addresses)
    with _dropping(f"ip daddr {{ {members} }}", f"ip saddr {{ {members} }}"):
        yield


@contextmanager
def _dropping(*matches: str) -> Iterator[None]:
    # On the way in: on the way out a sender would be told.
    hook = "type filter hook input priority 0;"
    rules = "\n".join(f"{match} drop" for match in matches)
    text = f"table {_TABLE} {{\nchain input {{\n{hook}\n{rules}\n}}\n}}\n"
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", f"delete table {_TABLE}"], check=True)
