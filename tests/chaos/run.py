"""One run: faults in an order drawn from the seed, clients all the time, a verdict at the end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from sappers.api.ways import Endpoint
from tests.chaos.clients import Clients, Record
from tests.chaos.exclusive import ExclusiveWatch
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.history import violations
from tests.chaos.wellness import WHOLE_SECONDS, await_well
from tests.e2e.lab_cluster import LabCluster

ONLY_ONE = "only-one"


@dataclass
class Outcome:
    """What happened, and what was wrong.

    Attributes:
        struck: Each fault: its name, whom it hit, seconds it lasted, and from when it was mended
            until the cluster was whole.
        wrong: Broken promises, in words; empty when all were kept.
        moves: How often the exclusive guest came up on another host.
    """

    record: Record
    struck: list[tuple[str, str, float, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    longest_silence: float = 0.0
    moves: int = 0


def run(cluster: LabCluster, seed: int, seconds: float, say: Callable[[str], None]) -> Outcome:
    """Torment the cluster for so long. Every fault comes once before one comes again.

    It ends early where the cluster does not become whole again after a fault, which is wrong, too.
    """
    dice = random.Random(seed)
    endpoints = {host: Endpoint(host, cluster.address(host), 11000) for host in cluster.hosts()}
    clients = Clients(cluster.identity, endpoints, cluster.wanted(count=0))
    outcome = Outcome(clients.record)
    with cluster.client() as client:
        client.put_workload(ONLY_ONE, replace(cluster.wanted(port=None), exclusive=True))
    cluster.healthy_guest(ONLY_ONE, WHOLE_SECONDS)
    watch = ExclusiveWatch(cluster, ONLY_ONE)
    began = time.monotonic()
    clients.start()
    watch.start()
    try:
        while time.monotonic() - began < seconds:
            for fault in dice.sample(FAULTS, len(FAULTS)):
                if time.monotonic() - began >= seconds:
                    break
                outcome.struck.append(_strike(cluster, fault, dice))
                name, whom, lasted, mended = outcome.struck[-1]
                say(f"{name} ({whom}): {lasted:.1f} s; whole again {mended:.1f} s later")
    except AssertionError as error:
        outcome.wrong.append(str(error))
    finally:
        clients.stop()
        watch.stop()
    outcome.longest_silence = clients.record.longest_silence(began, time.monotonic())
    outcome.moves = watch.moves
    outcome.wrong += [*_not_linearizable(clients), *watch.wrong]
    if not outcome.wrong:
        outcome.wrong = _lost(cluster, clients)
    return outcome


def _strike(
    cluster: LabCluster, fault: Fault, dice: random.Random
) -> tuple[str, str, float, float]:
    began = time.monotonic()
    whom = fault.strike(cluster, dice)
    mended = time.monotonic()
    await_well(cluster)
    return fault.name, whom, mended - began, time.monotonic() - mended


def _not_linearizable(clients: Clients) -> list[str]:
    """What is wrong with the registers' histories."""
    return [
        f"{register}: {problem}"
        for register, operations in sorted(clients.record.operations.items())
        for problem in violations(operations)
    ]


def _lost(cluster: LabCluster, clients: Clients) -> list[str]:
    """What was acknowledged and is not the last word of each member's own replica."""
    cluster.await_whole(WHOLE_SECONDS)
    states = {}
    for host in cluster.hosts():
        with cluster.client(host) as client:
            states[host] = {
                one.name: one.guest_port
                for one in client.workloads().workloads
                if one.name in clients.registers
            }
    first, *others = states
    wrong = [
        f"{other} and {first} differ: {states[other]} against {states[first]}"
        for other in others
        if states[other] != states[first]
    ]
    for register in clients.registers:
        written = [
            one.value
            for one in clients.record.operations[register]
            if one.kind == "write" and one.ended < float("inf")
        ]
        left = states[first].get(register) or 0
        if left < max(written, default=0):
            wrong.append(f"{register}: {max(written)} was acknowledged, {left} is left")
    return wrong
