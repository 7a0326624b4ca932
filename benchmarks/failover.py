"""How long nobody takes writes after the leader's agent is killed."""

from __future__ import annotations

import os
import signal
import time

import msgspec

from benchmarks.figures import Row, Section, at_most, spread
from benchmarks.processes import agent_of
from benchmarks.rig import REST_SECONDS, Rig
from sappers.api.operator_client import OperatorClient
from sappers.api.wire import Written
from sappers.errors import ApiError

KILLS = 10
SECONDS_MAX = 2.0
GIVE_UP_SECONDS = 30.0
_TRY_SECONDS = 1.0
_PAUSE_SECONDS = 0.02


def measure(rig: Rig) -> list[Section]:
    """Kills the leader's agent, time after time; the cluster is whole before each."""
    image = _image(rig)
    taken = [_one_kill(rig, image, number) for number in range(KILLS)]
    with rig.client() as client:
        rig.await_whole(client)
        client.delete_workload("bench-write")
    rows = [
        Row("min / median / max", spread(taken)),
        at_most(f"slowest of {KILLS}", max(taken), SECONDS_MAX, "s", 2),
    ]
    notes = (
        "From `kill -9` of the leader's agent to a write that another member acknowledged as "
        "committed under a new leader.",
    )
    return [Section("Failover", rows, notes)]


def _one_kill(rig: Rig, image: dict[str, str], number: int) -> float:
    with rig.client() as client:
        rig.await_whole(client)
        time.sleep(REST_SECONDS)
        view = rig.await_whole(client)
    names = {one.member.id: one.member.name for one in view.members}
    leader = names[str(view.leader_id)]
    other = sorted(set(names.values()) - {leader})[number % (len(names) - 1)]
    agent = agent_of(rig.lab.control_group(leader))
    with rig.client(other) as client:
        client.health()  # the connection is open before the clock starts
        began = time.monotonic()
        os.kill(agent.pid, signal.SIGKILL)
        _write_in_later_term(client, image, view.term, began)
        seconds = time.monotonic() - began
    rig.say(
        f"kill {number + 1} of {KILLS}: {leader} led, {other} acknowledged after {seconds:.2f} s"
    )
    return seconds


def _write_in_later_term(
    client: OperatorClient, image: dict[str, str], term: int, began: float
) -> None:
    """A workload of no copies: a write that starts nothing. Tried until it is acknowledged.

    What the killed leader's own raft process may still commit, before it ends, does not count.
    """
    wanted = msgspec.json.encode({"image": image, "count": 0})
    while time.monotonic() - began < GIVE_UP_SECONDS:
        try:
            answer = client.call(
                "PUT", "/v1/workloads/bench-write", content=wanted, timeout_seconds=_TRY_SECONDS
            )
        except ApiError:
            time.sleep(_PAUSE_SECONDS)
        else:
            if msgspec.json.decode(answer, type=Written).term > term:
                return
    raise RuntimeError(f"nobody took writes for {GIVE_UP_SECONDS:.0f} s")


def _image(rig: Rig) -> dict[str, str]:
    digest, _ = rig.deploy("image", "build", "hello")
    rig.deploy("image", "push", "hello")
    return {"name": "hello", "digest": digest.strip()}
