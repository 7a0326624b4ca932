"""A guest's network comes up: whoever waits at its gateway hears of it at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/usr/bin/unshare").exists(), reason="needs root and unshare"
)

MAC = "02:00:00:00:00:05"
JOIN = f"""
from sappers.sidecar import machine
machine.ready_network("10.0.2.15", "255.255.255.0", "guest0")
machine.join_network("10.0.2.2", "{MAC}", "guest0")
"""
# Two networks and a cable; both go with the processes in them. The gateway has asked nothing.
CABLE = """
set -e
ip link add gate type veth peer name guest0
ip address add 10.0.2.2/24 dev gate
ip link set gate up
unshare --net sleep 60 &
guest=$!
trap 'kill $guest' EXIT
until [ "$(readlink /proc/$guest/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
ip link set guest0 netns $guest
nsenter --net=/proc/$guest/ns/net "$@"
until ip neighbour show dev gate | grep lladdr; do sleep 0.01; done
"""


def test_the_gateway_knows_a_guest_that_nobody_asked_for() -> None:
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", CABLE, "sh", sys.executable, "-c", JOIN],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.split()[:3] == ["10.0.2.15", "lladdr", MAC]
