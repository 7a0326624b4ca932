"""Wall clocks of hosts that step, though all hosts of a lab have the machine's own.

What the agent and its raft process call the time is made to follow a file of their host, by a line
that Python runs at its start. (libfaketime does this for any program; Python's `time.sleep` fails
under it.) Other clocks go on: a step of the wall's is just that.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.e2e.lab_cluster import LabCluster

_OFFSET = "/run/clock-step"
_PYTHON = "/opt/sappers/current/bin/python"
_MODULE = f"""
import time

def _stepped(real, unit):
    def now():
        try:
            with open("{_OFFSET}") as file:
                return real() + unit * int(file.read())
        except (OSError, ValueError):
            return real()
    return now

time.time, time.time_ns = _stepped(time.time, 1), _stepped(time.time_ns, 10**9)
"""


def make_clocks_step(cluster: LabCluster) -> None:
    """From now on the clocks of all agents can be stepped; they are started anew for that."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: _make_clock_step(cluster, host), cluster.hosts()))


def _make_clock_step(cluster: LabCluster, host: str) -> None:
    cluster.run(
        host,
        "for there in /opt/sappers/current/lib/python3*/site-packages; do"
        f" cat > $there/_clock_step.py <<'END'\n{_MODULE}\nEND\n"
        " echo 'import _clock_step' > $there/_clock_step.pth; done",
    )
    step_clock(cluster, host, 3600)  # nothing that runs sees it yet
    look = f"{_PYTHON} -I -c 'import time; print(time.time())'; date +%s"
    stepped, true = map(float, cluster.run(host, look).split())
    assert abs(stepped - true - 3600) < 60, f"{host}: its agent's clock cannot be stepped"
    step_clock(cluster, host, 0)
    cluster.run(host, "systemctl restart sappers")


def step_clock(cluster: LabCluster, host: str, seconds: int) -> None:
    """Set a host's wall clock so far ahead of the true time."""
    cluster.run(host, f"echo {seconds} > {_OFFSET}.new && mv {_OFFSET}.new {_OFFSET}")
