"""One run: a cluster is founded, suffers, is put right, and must be whole again within a bound."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from sappers.decisions.forgetting import why_kept
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import PutImage, PutWorkload
from sappers.model.image import ClusterImage
from sappers.model.repair import HEALER, RepairKey, RepairLogin, RepairStatus
from sappers.model.repair_commands import PutRepairKey
from sappers.model.workload import Workload
from tests.chaos.history import violations
from tests.image_stores import KEY
from tests.simulation.catastrophes import LEADERLESS_SECONDS
from tests.simulation.clients import IMAGE, Client, Register
from tests.simulation.determinism import deterministic
from tests.simulation.faults import Faults
from tests.simulation.hosts import Host, Surroundings
from tests.simulation.loop import VirtualLoop, current_life
from tests.simulation.machine import FORGET_SECONDS, LEASE_SECONDS, agent_settings
from tests.simulation.network import Network
from tests.simulation.watch import Watch, why_not_whole

QUORUM = "quorum"  # a kind of fault: the quorum is lost for good

Tell = Callable[[str], None]

STEP_SECONDS = 0.1
FOUNDED_WITHIN_SECONDS = 15.0
RECOVERED_WITHIN_SECONDS = 60.0
WHOLE_WITHIN_SECONDS = 60.0
HEALED_WITHIN_SECONDS = 900.0  # a healer that dies with its credential is waited for
SETTLED_SECONDS = 1.0
QUIET_SECONDS = 2.0
TRANSCRIPT_LINES = 100


@dataclass
class Report:
    """How a run ended.

    Attributes:
        violations: Empty when everything held.
        transcript: The last lines, where one was kept.
        digest: Of all that was committed: equal for equal runs.
    """

    seed: int
    violations: list[str]
    transcript: list[str] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)
    digest: str = ""


class World:
    """Everything of one run."""

    def __init__(
        self, seed: int, loop: VirtualLoop, tell: Tell | None = None, *, healing: bool = False
    ) -> None:
        """`healing`: there are healers, and faults last long enough that they come in between."""
        self.seed = seed
        self.healing = healing
        self.chance = random.Random(f"world/{seed}")
        self.loop = loop
        self._whole_since: float | None = None
        self.network = Network(self.loop, seed)
        self.watch = Watch(self.loop, tell)
        self.around = Surroundings(self.loop, self.network, self.watch)
        self.hosts: list[Host] = self.watch.hosts
        voters = self.chance.choice((3, 3, 3, 5))
        self._entries = self.chance.choice((10, 40, 1000))
        self._fences = random.Random(f"fence/{seed}").random() < 0.5
        self.loop.fence = self._cut_off_from_power
        for number in range(1, voters + self.chance.randint(0, 2) + 1):
            self._add_host(number, bootstrap=voters if number == 1 else 0)
        self._hosts_max = len(self.hosts) + 1
        self.registers = [Register("r1"), Register("r2")]
        self.clients = [self._client(f"c{number}") for number in (1, 2, 3)]
        self.operator = self._client("operator")
        self.faults = Faults(
            self.loop, self.network, self.hosts, self.watch, self.chance, self.operator,
            self._new_host,
        )  # fmt: skip
        self.faults.choose(quorum_may_be_lost=not healing)
        self._first = self.hosts.copy()  # some may burn
        self.watch.on_recovery = self._begin_anew

    def _add_host(self, number: int, bootstrap: int = 0) -> Host:
        settings = agent_settings(
            f"m{number}",
            f"10.0.0.{number}",
            bootstrap=bootstrap,
            entries=self._entries,
            fences=self._fences,
        )
        host = Host(self.around, f"m{number}", self.seed, settings)
        self.around.hosts[host.name] = host
        self.hosts.append(host)
        return host

    async def _cut_off_from_power(self, facts: Mapping[str, str]) -> tuple[bool, str]:
        """In place of the operator's command, in the life of the agent that runs it."""
        life, member, term = current_life(), facts["SAPPERS_MEMBER_ID"], int(facts["SAPPERS_TERM"])
        assert life is not None
        self.watch.fences(life.name.partition("#")[0], member, term)
        host = self.around.hosts[member]
        await asyncio.sleep(host.chance.uniform(0.05, 2.0))
        if host.chance.random() < 0.3:
            return False, "its controller does not answer"
        if host.is_up:
            host.lose_power()
        return True, "off"

    def _new_host(self) -> Host | None:
        if len(self.hosts) >= self._hosts_max:
            return None
        return self._add_host(len(self.hosts) + 1)

    def _client(self, name: str) -> Client:
        return Client(
            name, self.loop, self.hosts, self.registers, random.Random(f"{self.seed}/{name}")
        )

    # -- the course of a run ------------------------------------------------------------------

    def run(self) -> None:
        """All of it; what was broken is in the watch."""
        for host in self.hosts:
            host.boot()
        self.loop.create_task(self._want_workloads())
        if not self._run_until(self._is_founded, FOUNDED_WITHIN_SECONDS):
            self.watch.broke(f"not founded: {self._why_not()}")
            return
        lasting = (40.0, 80.0) if self.healing else (4.0, 8.0)
        until = self.loop.time() + self.chance.uniform(*lasting)
        for client in self.clients:
            self.loop.create_task(client.run(until + 0.5 * self.faults.loses_quorum))
        self.faults.begin(until)
        self._run_until(lambda: self.loop.time() >= until + 1.0, 120.0)
        self.faults.heal()
        if self.faults.loses_quorum:
            self._recover()
        self._start_what_healers_gave_up()
        if self.healing:
            self.loop.create_task(self._start_what_healers_cannot_reach())
        # A question that was on its way then may yet come too late for a lease.
        leases_fit_from = self.loop.time() + LEASE_SECONDS
        self._must_become_whole("the last fault")
        self._must_forget_who_is_gone()
        if self.faults.bring_back():
            self._must_become_whole("one came back that had been gone for long")
        began = self.loop.time()
        self._run_until(lambda: False, QUIET_SECONDS)
        exclusive_at = self.watch.launched_exclusive_at
        if self.watch.launched_at > began or exclusive_at > max(began, leases_fit_from):
            self.watch.broke("a guest is launched although nothing lacks")
        self._check_the_end()

    def _recover(self) -> None:
        """By an operator, from the loss of the quorum; and it is used again."""
        recovery = self.loop.create_task(self.faults.recover())
        if not self._run_until(recovery.done, RECOVERED_WITHIN_SECONDS):
            self.watch.broke(f"not recovered after {RECOVERED_WITHIN_SECONDS:g} s")
        until = self.loop.time() + self.chance.uniform(1.0, 4.0)
        for client in self.clients:
            work = client.run_again(until, lambda one: one in self.watch.requests)
            self.loop.create_task(work)
        self._run_until(lambda: self.loop.time() >= until, 10.0)

    def _begin_anew(self, state: ClusterState) -> None:
        """What was given up was never so, from now on: registers have what this state says."""
        for register in self.registers:
            workload = state.workloads.get(register.name)
            register.begin_anew(workload.memory_mib if workload else 0, self.loop.time())

    def _must_become_whole(self, what: str) -> None:
        self._whole_since = None
        within = HEALED_WITHIN_SECONDS if self.healing else WHOLE_WITHIN_SECONDS
        if not self._run_until(self._is_settled, within):
            self.watch.broke(f"not whole {within:g} s after {what}: {self._why_not()}")

    def _must_forget_who_is_gone(self) -> None:
        """Whoever is off now; it comes back later, and is a member again."""

        def are_forgotten() -> bool:
            state = self.watch.newest()
            everyone = sorted({host.name: host for host in (*self._first, *self.hosts)}.items())
            gone = [state.members.get(name) for name, host in everyone if not host.is_present]
            return not any(one and not why_kept(state, one) for one in gone)

        if not self._run_until(are_forgotten, 2 * FORGET_SECONDS):
            self.watch.broke(f"who is gone is not forgotten after {2 * FORGET_SECONDS:g} s")

    def _start_what_healers_gave_up(self) -> None:
        """While faults went on; from now on what they can reach is the healers'."""
        for host in self.hosts:
            over = self._repairs_of(host)
            if host.is_failed and over and all(one.is_terminal for one in over):
                self._start_by_hand(host)

    async def _start_what_healers_cannot_reach(self) -> None:
        """A person is told of a host without a way in; without a quorum nobody sends healers."""
        led_at = self.loop.time()
        while True:
            await asyncio.sleep(1.0)
            if any(host.knows_leader for host in self.hosts):
                led_at = self.loop.time()
            nobody_leads = self.loop.time() - led_at > LEADERLESS_SECONDS
            for host in self.hosts:
                has_moved = RepairStatus.MOVED in self._repairs_of(host)
                if host.is_failed and (has_moved or nobody_leads):
                    self._start_by_hand(host)

    def _repairs_of(self, host: Host) -> list[RepairStatus]:
        repairs = self.watch.newest().repairs.values()
        return [one.status for one in repairs if one.member_id == host.name]

    def _start_by_hand(self, host: Host) -> None:
        self.watch.note(f"a person starts the agent of {host.name}")
        host.repair_agent()

    async def _want_workloads(self) -> None:
        image = ClusterImage(IMAGE.name, IMAGE.digest, "microvm", 1, 1.0)
        web = Workload("web", IMAGE, guest_port=80, count=2)
        commands = (
            PutImage(image),
            PutWorkload(web),
            PutWorkload(Workload("db", IMAGE, exclusive=True)),
        )
        while await self.operator.submit(*commands) is None:
            pass
        if self.healing:
            key = RepairKey("ssh-ed25519 AAAA", b"sealed", (KEY.public,))
            logins = tuple(RepairLogin(one.name, 22, "root", False, ()) for one in self.hosts)
            image = ClusterImage(HEALER, "b" * 64, "microvm", 1, 1.0)
            while await self.operator.submit(PutImage(image), PutRepairKey(key, logins)) is None:
                pass

    def _run_until(self, is_done: Callable[[], bool], seconds: float) -> bool:
        """Step by step; whether it was done within the time. Ends at the first violation."""
        deadline = self.loop.time() + seconds
        while not self.watch.violations:
            if is_done():
                return True
            if self.loop.time() >= deadline:
                return False
            self.loop.run_until(self.loop.time() + STEP_SECONDS)
            self.watch.look_at_replicas(self.hosts)
            self.watch.look_at_ages(self.hosts)
            if self.loop.failures:
                self.watch.broke(f"an error that nobody caught: {self.loop.failures[0]}")
        return True

    def _is_founded(self) -> bool:
        state = self.watch.states.get(max(self.watch.states, default=0))
        return state is not None and bool(state.workloads) and not self._why_not()

    def _is_settled(self) -> bool:
        """Whether everything has been as wanted for a moment: what is just ending has ended."""
        if self._why_not():
            self._whole_since = None
        elif self._whole_since is None:
            self._whole_since = self.loop.time()
        return (
            self._whole_since is not None
            and self.loop.time() - self._whole_since >= SETTLED_SECONDS
        )

    def _why_not(self) -> str:
        if not self.watch.states:
            return "nothing is committed"
        return why_not_whole(self.watch.newest(), self.hosts) or self.watch.why_not_new()

    def _check_the_end(self) -> None:
        if self.watch.violations:
            return
        self.watch.look_at_replicas(self.hosts, whole=True)
        for client in (*self.clients, self.operator):
            self._check_answers(client)
        for register in self.registers:
            for history in (*register.before, register.history):
                if wrong := violations(history):
                    self.watch.broke(f"{register.name} is not linearizable: {wrong}")
                    for one in history:
                        self.watch.note(f"{register.name}: {one}")

    def _check_answers(self, client: Client) -> None:
        """What was acknowledged is committed just there, what was rejected is nowhere."""
        for request_id, (index, term) in client.acknowledged.items():
            entry = self.watch.entries.get(index)
            first = self.watch.requests.get(request_id, index + 1)
            given_up = self.watch.given_up.get(index)
            if given_up is not None and given_up.term == term:
                continue  # as the operator was told
            if entry is None or entry.term != term or first > index:
                self.watch.broke(f"{request_id} was acknowledged at {index} and is lost")
        for request_id in client.rejected & self.watch.requests.keys():
            self.watch.broke(f"{request_id} was rejected and is committed")


def run_seed(
    seed: int, *, kinds: Sequence[str] = (), transcript: bool = False, healing: bool = False
) -> Report:
    """Run one seed.

    Args:
        kinds: Of faults; none for those that the seed chooses.
        transcript: Whether to keep what was logged; it costs time and changes nothing.
        healing: See `World`; one agent stays down, of whatever kinds the faults are.
    """
    lines: deque[str] = deque(maxlen=TRANSCRIPT_LINES)
    loop = VirtualLoop()
    with deterministic(loop, seed, lines.append if transcript else None):
        world = World(seed, loop, lines.append if transcript else None, healing=healing)
        if kinds:
            world.faults.kinds = [kind for kind in kinds if kind != QUORUM]
            world.faults.loses_quorum = QUORUM in kinds
        if healing:
            world.faults.kinds.append("fail_agent")
        world.run()
        report = Report(
            seed, list(world.watch.violations), list(lines), _facts(world), _digest(world)
        )
        loop.close()
    return report


def _facts(world: World) -> dict[str, float]:
    return {
        "seconds": round(world.loop.time(), 3),
        "callbacks": world.loop.callbacks,
        "entries": len(world.watch.entries),
        "terms": len(world.watch.leaders),
        "launches": sum(world.watch.launches.values()),
        "acknowledged": sum(len(client.acknowledged) for client in world.clients),
        "repairs": sum(world.watch.repairs.values()),
    }


def _digest(world: World) -> str:
    told = hashlib.sha256()
    for _, entry in sorted(world.watch.entries.items()):
        told.update(msgspec.msgpack.encode(entry))
    for register in world.registers:
        told.update(repr((register.before, register.history)).encode())
    told.update(repr((_facts(world), world.watch.violations)).encode())
    return told.hexdigest()
