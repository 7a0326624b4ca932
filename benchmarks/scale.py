"""`python -m benchmarks.scale`: how the cluster's costs grow with its size, on paper.

The real decisions, state machine, journal and codec; members are values. What a network and guests
would add does not depend on the cluster's size, and is not in the figures.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import immutables
import msgspec
from rich.console import Console

from benchmarks.document import write_block
from benchmarks.figures import Row, Section, any_missed, at_most, show
from benchmarks.machine import facts
from benchmarks.plot import Curve, svg
from sappers.agent.hub.relay import HEARTBEAT_SECONDS, Heartbeat
from sappers.agent.leading.planning import COMMANDS_AT_ONCE
from sappers.consensus.journal import Journal
from sappers.consensus.state_machine import apply
from sappers.decisions.reconcile_cluster import LOST_AFTER_SECONDS, reconcile_cluster
from sappers.decisions.reconcile_member import reconcile_member
from sappers.decisions.suspicion import PULSE_SECONDS
from sappers.model import subjects
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import encode_state
from sappers.model.commands import (
    Command,
    Entry,
    PlaceAllocation,
    Proposal,
    encode_proposal,
)
from sappers.model.image import ClusterImage
from sappers.model.member import Accelerator, Member, MemberState, Ports, Resources
from sappers.model.observation import MemberObservation
from sappers.model.policy import HealthSettings
from sappers.model.suspicion import Pulse
from sappers.model.workload import ImageReference, Workload

INTRO = (
    "One run of `make bench-scale`: the real decisions, state machine, journal and codec, with "
    "members as values. Written by the run itself; [scale.svg](scale.svg) draws it."
)
SIZES = (10, 100, 1000, 5000)
GUESTS_EACH = 10
COPIES = 5
NOW = 1_800_000_000.0
IMAGE = ImageReference("app", "a" * 64)
PROTOCOL_BYTES = 20  # of NATS about a message: its verb, lengths, ends of line
RUNS = 5


@dataclass(frozen=True)
class Figures:
    """What one size costs; seconds and bytes.

    Attributes:
        replaced_seconds: From when the dead member is given up to the last commit of what replaces
            its guests; a durable write each.
        voter_bytes: A second, of one that votes.
    """

    size: int
    rest_seconds: float
    placing_seconds: float
    member_seconds: float
    replaced_seconds: float
    member_bytes: float
    voter_bytes: float
    snapshot_bytes: int


def measure(size: int) -> Figures:
    """Measure a cluster of so many members."""
    state = cluster(size)
    seen = MemberObservation(gossip=tuple(one for _, one in sorted(state.members.items())))
    empty = msgspec.structs.replace(state, allocations=immutables.Map())
    placed = reconcile_cluster(empty, seen, NOW)
    assert sum(isinstance(one, PlaceAllocation) for one in placed) == size * GUESTS_EACH
    member_bytes, voter_bytes = bytes_a_second(size)
    mine = MemberObservation(caught_up=True)
    return Figures(
        size=size,
        rest_seconds=timed(lambda: reconcile_cluster(fresh(state), seen, NOW)),
        placing_seconds=timed(lambda: reconcile_cluster(fresh(empty), seen, NOW), runs=1),
        member_seconds=timed(
            lambda: reconcile_member(fresh(state), mine, "m00007", NOW, HealthSettings())
        ),
        replaced_seconds=replace_guests(state, seen),
        member_bytes=member_bytes,
        voter_bytes=voter_bytes,
        snapshot_bytes=len(encode_state(state)),
    )


def cluster(size: int) -> ClusterState:
    """A cluster at rest: each member runs `GUESTS_EACH` guests, each workload has `COPIES`."""
    members = {
        f"m{number:05}": Member(
            id=f"m{number:05}",
            name=f"host{number}",
            address=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
            ports=Ports(),
            resources=Resources(cpus=16, memory_mib=65_536),
            accelerator=Accelerator("kvm", "paper"),
            version="0.1.0",
            has_vote=number < 3,
            state_since=NOW - 3600,
        )
        for number in range(size)
    }
    workloads = {
        f"w{number:05}": Workload(f"w{number:05}", IMAGE, guest_port=8080, count=COPIES)
        for number in range(size * GUESTS_EACH // COPIES)
    }
    allocations = [
        Allocation(
            id=f"{one.name}-{copy:08x}",
            workload=one.name,
            revision=0,
            image=IMAGE,
            memory_mib=one.memory_mib,
            member_id=f"m{(place * COPIES + copy) % size:05}",
            placed_term=1,
            guest_port=8080,
            host_port=20_000 + place % GUESTS_EACH,
            status=AllocationStatus.HEALTHY,
            reason="its sidecar says so",
            changed_at=NOW - 600,
        )
        for place, one in enumerate(workloads.values())
        for copy in range(COPIES)
    ]
    voters = tuple(sorted(members))[:3]
    return ClusterState(
        cluster_id="paper",
        index=1000,
        term=1,
        electorate=voters,
        hub_servers=voters,
        members=immutables.Map(members),
        workloads=immutables.Map(workloads),
        allocations=immutables.Map({one.id: one for one in allocations}),
        images=immutables.Map({IMAGE.digest: ClusterImage("app", IMAGE.digest, "microvm", 1, 1.0)}),
    )


def fresh(state: ClusterState) -> ClusterState:
    """An equal value for which nothing is worked out yet, as after every commit."""
    return msgspec.structs.replace(state)


def timed(run: Callable[[], object], runs: int = RUNS) -> float:
    """The median CPU time of a call, in seconds."""
    taken = []
    for _ in range(runs):
        began = time.process_time()
        run()
        taken.append(time.process_time() - began)
    return median(taken)


def replace_guests(state: ClusterState, seen: MemberObservation) -> float:
    """A member has been dead for long enough: plan, commit durably, apply; seconds."""
    victim = msgspec.structs.replace(
        state.members["m00005"], state=MemberState.DEAD, state_since=NOW - LOST_AFTER_SECONDS
    )
    state = msgspec.structs.replace(state, members=state.members.set(victim.id, victim))
    gossip = tuple(victim if one.id == victim.id else one for one in seen.gossip)
    seen = msgspec.structs.replace(seen, gossip=gossip)
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        began = time.perf_counter()
        commands = reconcile_cluster(state, seen, NOW)
        for start in range(0, len(commands), COMMANDS_AT_ONCE):
            state = commit(state, journal, commands[start : start + COMMANDS_AT_ONCE])
        taken = time.perf_counter() - began
    live = [one for one in state.allocations.values() if not one.status.is_terminal]
    assert len(live) == len(state.members) * GUESTS_EACH
    assert not any(one.member_id == victim.id for one in live)
    return taken


def commit(state: ClusterState, journal: Journal, commands: Sequence[Command]) -> ClusterState:
    """The state after a durable entry of these commands."""
    payload = encode_proposal(
        Proposal(f"r{state.index}", "m00000", NOW, tuple(commands), leader_term=1)
    )
    journal.add(payload, len(journal) + 1, 1)
    journal.sync()
    state, outcome = apply(state, Entry(state.index + 1, 1, payload))
    assert not outcome.refused, outcome.refused
    return state


def bytes_a_second(size: int) -> tuple[float, float]:
    """What a member, and one that votes, says and hears over the hub while nothing happens."""
    beat = message(subjects.HEARTBEAT, msgspec.json.encode(Heartbeat(1_000_000, 10, "m00000")))
    pulse = message(subjects.pulse("m00000"), msgspec.json.encode(Pulse(GUESTS_EACH, 0)))
    push = message(
        subjects.guest_health("w00000-00000000"),
        msgspec.json.encode({"healthy": True, "boot_id": "0" * 32, "sequence": 100_000}),
    )
    member = beat / HEARTBEAT_SECONDS + pulse / PULSE_SECONDS + 2 * GUESTS_EACH * push
    return member, member + size * pulse / PULSE_SECONDS


def message(subject: str, payload: bytes) -> int:
    """Bytes of one message with what NATS puts about it."""
    return PROTOCOL_BYTES + len(subject) + len(payload)


def sections(found: Sequence[Figures]) -> list[Section]:
    """The figures as tables."""
    told: list[Row] = []
    for one in found:
        guests = f"{one.size:,} members, {one.size * GUESTS_EACH:,} guests"
        told += [
            Row(f"{guests}: a plan when nothing is to do", f"{1000 * one.rest_seconds:.1f} ms"),
            Row("… a plan that places every guest", f"{1000 * one.placing_seconds:.1f} ms"),
            Row("… one member's own plan", f"{1000 * one.member_seconds:.1f} ms"),
            Row("… a dead member's guests placed anew", f"{1000 * one.replaced_seconds:.1f} ms"),
            Row(
                "… a second at rest: a member, a voter",
                f"{one.member_bytes:,.0f}, {one.voter_bytes:,.0f} bytes",
            ),
            Row("… a snapshot", f"{one.snapshot_bytes / 1e6:.2f} MB"),
        ]
    return [
        Section(
            "Growth on paper",
            [*told, *growth(found[-2], found[-1])],
            notes=(
                f"Placed anew: from when the leader gives the member up, {LOST_AFTER_SECONDS:g} s "
                "after gossip had it dead, to the last durable commit.",
                "A second at rest: the hub's messages of one member with its guests' health; a "
                "voter also hears the pulse of every agent. Gossip's own part is not in it.",
            ),
        )
    ]


def growth(small: Figures, large: Figures) -> list[Row]:
    """How much each cost grew between two sizes, against n log n."""
    bound = bound_of(large.size) / bound_of(small.size)
    return [
        at_most(f"from {small.size:,} to {large.size:,} members: {name}", ratio, limit, "times")
        for name, ratio, limit in (
            # A clock on a shared machine is no measure of work: tests/unit/decisions counts that.
            ("nothing to do", large.rest_seconds / small.rest_seconds, round(1.5 * bound, 1)),
            ("every guest", large.placing_seconds / small.placing_seconds, round(1.5 * bound, 1)),
            ("placed anew", large.replaced_seconds / small.replaced_seconds, round(1.5 * bound, 1)),
            ("a member's bytes", large.member_bytes / small.member_bytes, 1.0),
            ("a voter's bytes", large.voter_bytes / small.voter_bytes, round(bound, 1)),
            ("snapshot", large.snapshot_bytes / small.snapshot_bytes, round(bound, 1)),
        )
    ]


def bound_of(size: int) -> float:
    """n log n, of guests."""
    return size * math.log(size * GUESTS_EACH)


def curves(found: Sequence[Figures]) -> list[Curve]:
    """The figures as curves, each with n log n from its value at 1,000 members on."""

    def curve(title: str, unit: str, value: Callable[[Figures], float]) -> Curve:
        points = [(float(one.size), value(one)) for one in found]
        at_size, at_value = points[-2]
        scale = at_value / bound_of(int(at_size))
        bound = [(float(one.size), scale * bound_of(one.size)) for one in found]
        return Curve(title, unit, points, bound)

    return [
        curve("plan when nothing is to do", "ms", lambda one: 1000 * one.rest_seconds),
        curve("dead member's guests placed anew", "ms", lambda one: 1000 * one.replaced_seconds),
        curve("a voter's bytes a second", "bytes", lambda one: one.voter_bytes),
        curve("snapshot", "MB", lambda one: one.snapshot_bytes / 1e6),
    ]


def main() -> int:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there, too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves there (SVG)")
    asked = parser.parse_args()
    console, told = Console(), facts("msgspec", "immutables")
    console.print("\n".join(told), highlight=False)
    found = [measure(size) for size in SIZES]
    shown = sections(found)
    for section in shown:
        show(console, section)
    if asked.markdown:
        write_block(asked.markdown, "bench-scale", INTRO, told, shown)
    if asked.plot:
        asked.plot.write_text(svg(curves(found)))
    return int(any_missed(shown))


if __name__ == "__main__":
    sys.exit(main())
