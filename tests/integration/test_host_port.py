"""At which ports a guest can be published, seen by an agent that may not bind low ones."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

LOW_PORT = 999
PROGRAM = """\
import sys
from sappers.errors import LaunchError
from sappers.launchers.host_port import check_free

try:
    check_free("127.9.9.9", int(sys.argv[1]))
except LaunchError as error:
    print(error.message)
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may bind low ports")


def said_of(port: int, *, as_agent: bool) -> str:
    agent = ("setpriv", "--bounding-set=-net_bind_service", "--") if as_agent else ()
    command = (*agent, sys.executable, "-c", PROGRAM, str(port))
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@needs_root
@pytest.mark.parametrize("as_agent", [True, False])
def test_a_low_port_is_free_unless_somebody_listens(as_agent: bool) -> None:
    assert said_of(LOW_PORT, as_agent=as_agent) == ""
    with socket.create_server(("127.9.9.9", LOW_PORT)):
        said = said_of(LOW_PORT, as_agent=as_agent)
    assert said == f"port {LOW_PORT} of 127.9.9.9 is in use already"


def test_a_high_port_is_bound_to_see() -> None:
    with socket.create_server(("127.9.9.9", 0)) as taken:
        port = taken.getsockname()[1]
        assert "in use" in said_of(port, as_agent=False)
    assert said_of(port, as_agent=False) == ""
