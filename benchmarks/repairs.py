"""How long a member is away whose agent was killed for good, until a healer has brought it back."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from statistics import median

import msgspec

from benchmarks.figures import Row, Section, figure, spread
from benchmarks.rig import REST_SECONDS, Rig
from sappers.model.event import Event
from sappers.model.repair import HEALER, RepairStatus

RUNS = 3  # one a host: a member that is repaired again soon waits longer
GIVE_UP_SECONDS = 180.0
_LOOK_SECONDS = 0.2
# systemd starts a killed agent again by itself; a stopped unit it leaves alone.
_KILL = "date +%s.%N; systemctl kill -s KILL --kill-whom=main sappers; systemctl stop sappers"
_PHASES = {
    "member.dead": "until gossip has it dead",
    "repair.opened": "until the repair is committed",
    "repair.claimed": "until the healer has booted and claimed its credential",
    "member.alive": "until gossip has it alive again",
}


def measure(rig: Rig) -> list[Section]:
    """Kills an agent on each host in turn; the cluster is whole before each."""
    rig.deploy("image", "build", HEALER)
    rig.deploy("image", "push", HEALER)
    with rig.client() as client:
        hosts = sorted(one.member.name for one in rig.await_whole(client).members)[:RUNS]
    runs = [_one_repair(rig, host) for host in hosts]
    taken = [run["member.alive"] for run in runs]
    rows = [
        Row(f"min / median / max of {len(runs)}", spread(taken), number=median(taken), unit="s"),
        *(figure(f"median {text}", median(run[kind] for run in runs), "s") for kind, text in
          _PHASES.items()),
    ]  # fmt: skip
    notes = (
        "From `kill -9` of an agent, whose unit is then kept from starting it again, to the event "
        "that says that gossip has the member alive. The leader waits 15 s before it opens a "
        "repair, since most hosts come back by themselves.",
    )
    return [Section("Agent killed to restored by the healer", rows, notes)]


def _one_repair(rig: Rig, host: str) -> Mapping[str, float]:
    """Seconds from the kill to each event, the first of its kind."""
    with rig.client() as client:
        view = rig.await_whole(client)
    member_id = next(one.member.id for one in view.members if one.member.name == host)
    others = [one.member.name for one in view.members if one.member.name != host]
    time.sleep(REST_SECONDS)
    killed_at = _kill(rig, host)
    with rig.client(*others) as client:
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            repairs = [one for one in client.view().repairs if one.member_id == member_id]
            if repairs and repairs[0].opened_at > killed_at and repairs[0].status.is_terminal:
                break
            time.sleep(_LOOK_SECONDS)
        else:
            raise RuntimeError(f"{host} was not repaired within {GIVE_UP_SECONDS:.0f} s")
        if repairs[0].status is not RepairStatus.RESTORED:
            raise RuntimeError(f"{host} is {repairs[0].status}: {repairs[0].trouble}")
        events = [one for one in client.events(limit=1000).events if one.time >= killed_at]
    about = {member_id, repairs[0].id}
    found = {kind: _first(events, kind, about) - killed_at for kind in _PHASES}
    rig.say(f"{host} is back after {found['member.alive']:.1f} s")
    return found


def _kill(rig: Rig, host: str) -> float:
    """When it was done, in Unix time (hosts share this machine's clock)."""
    done = subprocess.run(
        rig.lab.ssh_command(host, (_KILL,)), capture_output=True, text=True, check=True
    )
    return float(msgspec.json.decode(done.stdout.split()[0]))


def _first(events: list[Event], kind: str, about: set[str]) -> float:
    return next(one.time for one in events if one.kind == kind and one.subject in about)
