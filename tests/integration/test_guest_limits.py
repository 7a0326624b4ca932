"""What nft lets a guest's user take of the cluster's ports, in a network namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from sappers.config import GUEST_USER_IDS
from sappers.model.member import Ports
from sappers.provisioner.bootstrap.guest_rules import (
    AGENT_CONNECTIONS_MAX,
    HUB_CONNECTIONS_MAX,
    HUB_KBYTES_PER_SECOND,
    OPENINGS_AT_ONCE,
    OPENINGS_PER_SECOND,
)
from sappers.provisioner.bootstrap.units import render_unit

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft"
)

# One user holds as many connections as it gets to a port, and says how many that are; another one
# does the same at the same time. The address is not of loopback, which guests do not reach at all.
_PROGRAM = """
import encodings.idna  # the user may not read it
import os, socket, sys, time

def hold(user, port, tries, writer):
    os.setuid(user)
    held = []
    for _ in range(tries):
        try:
            held.append(socket.create_connection(("10.9.9.1", port), timeout=5))
        except OSError:
            pass
    os.write(writer, b"%d " % len(held))
    time.sleep(60)

port, tries = int(sys.argv[1]), int(sys.argv[2])
server = socket.create_server(("10.9.9.1", port), backlog=256)
for user in map(int, sys.argv[3:]):
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            hold(user, port, tries, writer)
        finally:
            os._exit(0)
    os.close(writer)
    print(os.read(reader, 10).decode(), flush=True)
os.killpg(0, 9)
"""

# A user opens and closes connections for a while; how many.
_OPEN = """
import encodings.idna
import os, socket, sys, time
port, seconds, user = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
server = socket.create_server(("10.9.9.1", port), backlog=256)
os.setuid(user)
until, opened = time.monotonic() + seconds, 0
while time.monotonic() < until:
    try:
        socket.create_connection(("10.9.9.1", port)).close()
        server.accept()[0].close()
        opened += 1
    except OSError:
        time.sleep(0.001)
print(opened, flush=True)
"""
# A user has one connection that is written to for a while.
_FLOOD = """
import encodings.idna
import os, socket, sys, time
port, seconds, user = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
server = socket.create_server(("10.9.9.1", port))
if os.fork() == 0:
    os.setuid(user)
    client = socket.create_connection(("10.9.9.1", port))
    while True:
        client.sendall(bytes(65536))
reader, _ = server.accept()
reader.settimeout(0.2)
until, received = time.monotonic() + seconds, 0
while time.monotonic() < until:
    try:
        received += len(reader.recv(1 << 20))
    except TimeoutError:
        pass
print(received, flush=True)
os.killpg(0, 9)
"""
# A user's datagrams, how many of ten arrive.
_DATAGRAMS = """
import encodings.idna
import os, socket, sys
port, user = int(sys.argv[1]), int(sys.argv[2])
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("10.9.9.1", port))
server.settimeout(0.2)
os.setuid(user)
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
arrived = 0
for _ in range(10):
    try:
        client.sendto(b"x", ("10.9.9.1", port))
        arrived += len(server.recv(10))
    except OSError:
        pass
print(arrived, flush=True)
"""


def connections(port: int, *users: int, tries: int = 40) -> list[int]:
    """How many of `tries` connections each user gets, in turn, while the others hold theirs."""
    found = in_a_namespace(_PROGRAM, str(port), str(tries), *map(str, users))
    assert len(found) == len(users)
    return found


def in_a_namespace(program: str, *arguments: str) -> list[int]:
    """The numbers that a program prints where only the agent's rules hold."""
    lines = render_unit().decode().splitlines()
    rules = [line.partition('"')[2].removesuffix('"') for line in lines if "ExecStartPre" in line]
    steps = ["ip link set lo up", "ip address add 10.9.9.1/32 dev lo"]
    steps += [f"nft '{one}'" for one in rules]
    steps.append('exec setsid "$0" "$@"')
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", " && ".join(steps), *command],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout, done.stderr
    return [int(word) for word in done.stdout.split()]


@pytest.mark.parametrize(
    ("port", "limit"),
    [(Ports().hub, HUB_CONNECTIONS_MAX), (Ports().http, AGENT_CONNECTIONS_MAX)],
)
def test_each_guest_gets_a_few_connections_and_not_another_ones(port: int, limit: int) -> None:
    one, other = GUEST_USER_IDS.start + 7, GUEST_USER_IDS.start + 8
    assert connections(port, one, other) == [limit, limit]


def test_who_is_no_guest_is_not_counted_nor_is_another_port() -> None:
    assert connections(Ports().hub, 1000) == [40]
    assert connections(8080, GUEST_USER_IDS.start + 7) == [40]


def test_a_guest_has_no_part_in_gossip() -> None:
    port, guest = str(Ports().gossip), str(GUEST_USER_IDS.start + 7)
    assert connections(Ports().gossip, int(guest), 1000) == [0, 40]
    assert in_a_namespace(_DATAGRAMS, port, guest) == [0]
    assert in_a_namespace(_DATAGRAMS, port, "1000") == [10]
    assert in_a_namespace(_DATAGRAMS, "8080", guest) == [10]


def test_a_guest_sends_the_hub_only_so_much_and_others_as_they_like() -> None:
    guest, seconds = str(GUEST_USER_IDS.start + 7), 4
    allowed = (4 + seconds) * HUB_KBYTES_PER_SECOND * 1024
    (to_hub,) = in_a_namespace(_FLOOD, str(Ports().hub), str(seconds), guest)
    (elsewhere,) = in_a_namespace(_FLOOD, "8080", str(seconds), guest)
    print(f"{to_hub:,} bytes to the hub in {seconds} s, {elsewhere:,} to another port")
    assert HUB_KBYTES_PER_SECOND * 1024 < to_hub <= 1.3 * allowed
    assert elsewhere > 4 * allowed


@pytest.mark.parametrize("port", [Ports().hub, Ports().http])
def test_a_guest_opens_connections_only_so_often(port: int) -> None:
    seconds = 3
    (opened,) = in_a_namespace(_OPEN, str(port), str(seconds), str(GUEST_USER_IDS.start + 7))
    print(f"{opened} connections in {seconds} s")
    assert OPENINGS_AT_ONCE <= opened <= OPENINGS_AT_ONCE + OPENINGS_PER_SECOND * (seconds + 1)
