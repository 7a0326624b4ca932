"""What is done to the hosts, and undone. A fault is a function: it strikes, waits and mends."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tests.chaos.clocks import step_clock
from tests.chaos.wellness import await_well
from tests.e2e.lab_cluster import LabCluster

# Longer than an election, than gossip's word that a member is dead, and than a client waits.
_LASTING_SECONDS = 10.0
_FILLED = "/var/lib/sappers"
# The hub server outlives its agent, and has files open in the same folder.
_STOPPED = "systemctl stop sappers; systemctl stop sappers-hub 2>/dev/null"


@dataclass(frozen=True)
class Fault:
    """What happens, in a few words, and how."""

    name: str
    strike: Callable[[LabCluster, random.Random], str]


def _kill_agent(cluster: LabCluster, dice: random.Random) -> str:
    host = dice.choice(cluster.hosts())
    cluster.kill(host, cluster.main_pid(host, "sappers"))
    return host


def _kill_raft_process(cluster: LabCluster, dice: random.Random) -> str:
    view = cluster.view()
    host = cluster.host_of(dice.choice(view.electorate))
    cluster.kill(host, cluster.raft_pid(host))
    return host


def _kill_hub_server(cluster: LabCluster, dice: random.Random) -> str:
    view = cluster.view()
    host = cluster.host_of(dice.choice(view.hub_servers))
    cluster.kill(host, cluster.main_pid(host, "sappers-hub"))
    return host


def _hang_agent(cluster: LabCluster, dice: random.Random) -> str:
    """Of the agent alone, the leader's more often: its raft process goes on."""
    host = dice.choice([cluster.leader(), *cluster.hosts()])
    return _stop_for_a_while(cluster, host, cluster.main_pid(host, "sappers"))


def _hang_raft_process(cluster: LabCluster, dice: random.Random) -> str:
    """The leader's more often: its agent goes on."""
    host = dice.choice([cluster.leader(), *map(cluster.host_of, cluster.view().electorate)])
    return _stop_for_a_while(cluster, host, cluster.raft_pid(host))


def _stop_for_a_while(cluster: LabCluster, host: str, process: int) -> str:
    cluster.run(host, f"kill -STOP {process}")
    try:
        time.sleep(_LASTING_SECONDS)
    finally:
        cluster.run(host, f"kill -CONT {process} 2>/dev/null; true")  # it may have been replaced
    return host


def _clock_step(cluster: LabCluster, dice: random.Random) -> str:
    host = dice.choice([cluster.leader(), *cluster.hosts()])
    seconds = dice.choice((-3600, -30, 30, 3600))
    step_clock(cluster, host, seconds)
    try:
        time.sleep(_LASTING_SECONDS)
    finally:
        step_clock(cluster, host, 0)
    return f"{host} by {seconds} s and back"


def _power_cut(cluster: LabCluster, dice: random.Random) -> str:
    host = dice.choice(cluster.hosts())
    cluster.lab.kill_host(host)
    time.sleep(_LASTING_SECONDS)
    cluster.lab.start_host(host)
    return host


def _power_cut_of_all(cluster: LabCluster, dice: random.Random) -> str:
    hosts = cluster.hosts()
    for host in hosts:
        cluster.lab.kill_host(host)
    cluster.lab.up()
    return "all"


def _pause(cluster: LabCluster, dice: random.Random) -> str:
    host = dice.choice(cluster.hosts())
    cluster.lab.pause_host(host)
    try:
        time.sleep(_LASTING_SECONDS)
    finally:
        cluster.lab.resume_host(host)
    return host


def _leader_alone(cluster: LabCluster, dice: random.Random) -> str:
    leader = cluster.leader()
    rest = [host for host in cluster.hosts() if host != leader]
    with _cut(cluster, [leader], rest):
        time.sleep(_LASTING_SECONDS)
    return leader


def _halves(cluster: LabCluster, dice: random.Random) -> str:
    hosts = _shuffled(cluster, dice)
    middle = len(hosts) // 2
    with _cut(cluster, hosts[:middle], hosts[middle:]):
        time.sleep(_LASTING_SECONDS)
    return " ".join(hosts[:middle])


def _bridge(cluster: LabCluster, dice: random.Random) -> str:
    between, *rest = _shuffled(cluster, dice)
    middle = len(rest) // 2
    with _cut(cluster, rest[:middle], rest[middle:]):
        time.sleep(_LASTING_SECONDS)
    return f"{between} hears all"


def _one_way(cluster: LabCluster, dice: random.Random) -> str:
    host = dice.choice([cluster.leader(), *cluster.hosts()])
    try:
        cluster.lab.deafen(host, [other for other in cluster.hosts() if other != host])
        time.sleep(_LASTING_SECONDS)
    finally:
        cluster.lab.mend()
    return f"{host} hears nobody"


def _full_disk(cluster: LabCluster, dice: random.Random) -> str:
    """A full file system in place of the agent's, from a copy of what is there.

    On a host without a guest, which has files open below it.
    """
    view = cluster.view()
    busy = {one.member_id for one in view.allocations if not one.status.is_terminal}
    idle = [one.member.name for one in view.members if one.member.id not in busy]
    host = dice.choice(idle)
    cluster.run(
        host,
        f"{_STOPPED}; mkdir -p /run/full"
        f" && size=$(du -sm {_FILLED} | cut -f1)"
        " && mount -t tmpfs -o size=$((size + 2))m full /run/full"
        f" && cp -a {_FILLED}/. /run/full && mount --bind /run/full {_FILLED}"
        " && systemctl start sappers",
    )
    try:
        cluster.run(host, f"dd if=/dev/zero of={_FILLED}/filler bs=64k 2>/dev/null; true")
        time.sleep(_LASTING_SECONDS)
    finally:
        cluster.run(
            host,
            f"{_STOPPED}; rm -f {_FILLED}/filler; umount {_FILLED}"
            f" && cp -a /run/full/. {_FILLED} && umount /run/full && systemctl start sappers",
        )
    return host


def _restart_of_all(cluster: LabCluster, dice: random.Random) -> str:
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: cluster.run(host, "systemctl restart sappers"), cluster.hosts()))
    return "all"


def _rolling_restart(cluster: LabCluster, dice: random.Random) -> str:
    for host in _shuffled(cluster, dice):
        cluster.run(host, "systemctl restart sappers")
        await_well(cluster)
    return "one after the other"


@contextmanager
def _cut(cluster: LabCluster, *sides: list[str]) -> Iterator[None]:
    cluster.lab.partition(*sides)
    try:
        yield
    finally:
        cluster.lab.mend()


def _shuffled(cluster: LabCluster, dice: random.Random) -> list[str]:
    hosts = list(cluster.hosts())
    dice.shuffle(hosts)
    return hosts


FAULTS = (
    Fault("kill -9 of an agent", _kill_agent),
    Fault("kill -9 of a raft process", _kill_raft_process),
    Fault("kill -9 of a hub server", _kill_hub_server),
    Fault("an agent hangs for 10 s", _hang_agent),
    Fault("a raft process hangs for 10 s", _hang_raft_process),
    Fault("a clock steps", _clock_step),
    Fault("power cut of a host", _power_cut),
    Fault("power cut of all hosts", _power_cut_of_all),
    Fault("a host stands still for 10 s", _pause),
    Fault("the leader alone", _leader_alone),
    Fault("two halves", _halves),
    Fault("two halves and a host between", _bridge),
    Fault("a host that hears nobody", _one_way),
    Fault("a full disk", _full_disk),
    Fault("restart of all agents", _restart_of_all),
    Fault("rolling restart", _rolling_restart),
)
