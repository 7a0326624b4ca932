"""Who may use a link's port and answer there, with real rules of nft in a network namespace."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from sappers.config import PROXY_USERS_BEYOND
from sappers.launchers.guest_identity import user_id_for
from sappers.launchers.link_doors import close_doors, open_doors
from sappers.provisioner.bootstrap.units import render_unit

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft"
)

SHOP, OTHER = "shop-00000001", "other-00000001"
LINK, ANOTHER = 22_001, 22_002
# The proxy listens on the link's port, the (private) guest itself on the other.
# Says for each (user, port) whether so much as a whole answer comes back, its end included.
PROGRAM = f"""
import encodings.idna  # the user may not read it
import os, socket, sys
for port, user in (
    ({LINK}, {user_id_for(SHOP) + PROXY_USERS_BEYOND}), ({ANOTHER}, {user_id_for(SHOP)})
):
    listens, tell = os.pipe()
    if os.fork() == 0:
        os.setuid(user)
        server = socket.create_server(("127.0.0.1", port))
        os.write(tell, b"1")
        while True:
            one, _ = server.accept()
            one.sendall(bytes(200_000))
            one.close()
    os.read(listens, 1)
for pair in sys.argv[1:]:
    user, port = map(int, pair.split(":"))
    if os.fork() == 0:
        os.setuid(user)
        received = 0
        try:
            client = socket.create_connection(("127.0.0.1", port), timeout=5)
            while got := client.recv(65536):
                received += len(got)
        except OSError:
            pass
        print(int(received == 200_000), flush=True)
        os._exit(0)
    os.wait()
os.killpg(0, 9)
"""


def tried(*steps: tuple[str, ...]) -> list[bool]:
    """Whether shop, another guest and root get through to the link, then to another port."""
    users = (user_id_for(SHOP), user_id_for(OTHER), 0)
    lines = render_unit().decode().splitlines()
    rules = [line.partition('"')[2].removesuffix('"') for line in lines if "ExecStartPre" in line]
    agent_starts = [("nft", one) for one in rules]
    commands = [("ip", "link", "set", "lo", "up"), *agent_starts, *steps, *agent_starts]
    pairs = [f"{user}:{port}" for port in (LINK, ANOTHER) for user in users]
    script = " && ".join(shlex.join(one) for one in commands) + ' && exec setsid "$0" "$@"'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", script, sys.executable, "-c", PROGRAM, *pairs],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout, done.stderr
    return [line == "1" for line in done.stdout.split()]


def test_a_link_is_its_guests_alone_also_after_the_agent_starts_again() -> None:
    open_to_shop = [True, False, False]
    only_root = [False, False, True]
    assert tried(open_doors(SHOP, [LINK])) == [*open_to_shop, *only_root]
    # Said twice: as it is after a proxy that ended without having its doors closed.
    assert tried(open_doors(SHOP, [LINK]), open_doors(SHOP, [LINK])) == [*open_to_shop, *only_root]


def test_whoever_took_the_port_of_a_link_before_its_proxy_is_heard_by_nobody() -> None:
    assert tried(open_doors(SHOP, [LINK, ANOTHER])) == [True, False, False, False, False, False]


def test_a_link_that_is_closed_is_a_port_as_any() -> None:
    only_root = [False, False, True]
    assert tried(open_doors(SHOP, [LINK]), close_doors(SHOP, [LINK])) == 2 * only_root
    assert open_doors(SHOP, []) == close_doors(SHOP, []) == ()
