"""Whether a host can be a member: facts in, all problems out. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from statistics import median

from sappers.errors import HostUnfit
from sappers.model.image import ARCHITECTURE
from sappers.model.member import Ports
from sappers.provisioner.executor.facts import Facts

PYTHON_MIN = (3, 11)
CLOCKS_APART_MAX_SECONDS = 2.0
# What the packages and the agent take while being unpacked, with some air.
ROOM_MIB: Mapping[str, int] = {"/var": 1024, "/opt": 512}
ROOM_INSTALLED_MIB: Mapping[str, int] = {"/var": 128, "/opt": 64}

AGENT_UNIT = "sappers.service"
HUB_UNIT_PREFIX = "sappers-hub"


def find_problems(
    name: str, facts: Facts, ports: Ports, *, our_units: Collection[str], installed: bool
) -> tuple[HostUnfit, ...]:
    """What keeps a host from being a member, seen on its own.

    Args:
        name: Of the host.
        facts: What is true of it.
        ports: What the agent and the hub will listen on.
        our_units: Names of active units whose name begins with `sappers`.
        installed: Packages and agent are in place, so little more room is needed.
    """
    checks = (
        _system(name, facts),
        _room(name, facts, ROOM_INSTALLED_MIB if installed else ROOM_MIB),
        _ports(name, facts, ports, our_units),
    )
    return tuple(problem for check in checks for problem in check)


def find_shared_problems(name: str, facts: Mapping[str, Facts]) -> tuple[HostUnfit, ...]:
    """What keeps a host from being a member, seen beside the others."""
    return (*_clock(name, facts), *_twins(name, facts))


def _system(name: str, facts: Facts) -> Iterator[HostUnfit]:
    if facts.python_version[:2] < PYTHON_MIN:
        found = ".".join(map(str, facts.python_version))
        yield HostUnfit(
            name,
            f"Python {found} at {facts.python_path}; an agent needs 3.11 or newer",
            hint="install a newer one and set ansible_python_interpreter",
        )
    if facts.architecture != ARCHITECTURE:
        yield HostUnfit(name, f"its architecture is {facts.architecture}; only x86_64 is supported")
    if not facts.systemd:
        yield HostUnfit(name, "systemd is not its init system", hint="boot it with systemd")
    if not facts.is_root:
        yield HostUnfit(
            name, "we are not root there", hint="set ansible_become=true, or ansible_user=root"
        )


def _room(name: str, facts: Facts, needed: Mapping[str, int]) -> Iterator[HostUnfit]:
    for path, mib in needed.items():
        free = facts.free_disk_mib.get(path)
        if free is not None and free < mib:
            yield HostUnfit(
                name, f"{path} has {free} MiB free, {mib} MiB are needed", hint="make room"
            )


def _ports(
    name: str, facts: Facts, ports: Ports, our_units: Collection[str]
) -> Iterator[HostUnfit]:
    agent = {ports.gossip: "gossip", ports.raft: "Raft", ports.http: "the HTTP API"}
    hub = {ports.hub: "the hub", ports.hub_routes: "the hub's routes"}
    wanted: dict[int, str] = {}
    if AGENT_UNIT not in our_units:
        wanted |= agent
    if not any(unit.startswith(HUB_UNIT_PREFIX) for unit in our_units):
        wanted |= hub
    seen: set[int] = set()
    for listener in facts.listeners:
        if listener.port not in wanted or listener.port in seen:
            continue
        if listener.protocol == "udp" and listener.port != ports.gossip:
            continue
        seen.add(listener.port)
        owner = listener.process or "another process"
        yield HostUnfit(
            name,
            f"port {listener.port}, wanted for {wanted[listener.port]}, is taken by {owner}",
            hint=f"stop {owner} there, or give it another port",
        )


def _clock(name: str, facts: Mapping[str, Facts]) -> Iterator[HostUnfit]:
    middle = median(one.clock_offset_seconds for one in facts.values())
    apart = facts[name].clock_offset_seconds - middle
    if abs(apart) - facts[name].clock_uncertainty_seconds > CLOCKS_APART_MAX_SECONDS:
        side = "ahead of" if apart > 0 else "behind"
        yield HostUnfit(
            name,
            f"its clock is {abs(apart):.1f} s {side} the other hosts'",
            hint="run a time service there, such as systemd-timesyncd or chrony",
        )


def _twins(name: str, facts: Mapping[str, Facts]) -> Iterator[HostUnfit]:
    mine = facts[name]
    for other, theirs in facts.items():
        if other != name and mine.machine_id == theirs.machine_id and mine.machine_id:
            shared = set(mine.addresses) & set(theirs.addresses)
            if shared:
                yield HostUnfit(
                    name,
                    f"{other} is the same machine ({', '.join(sorted(shared))})",
                    hint="one machine is one member; remove one of the two from the inventory",
                )
