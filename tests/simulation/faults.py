"""Faults: what may go wrong, and how it is put right again. Which of them, when, the seed says."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from sappers.errors import SappersError
from sappers.model.commands import CordonMember, PutWorkload, StopWorkload, UncordonMember
from sappers.model.workload import Workload
from tests.simulation.catastrophes import Catastrophes
from tests.simulation.clients import IMAGE, ask
from tests.simulation.hosts import Host
from tests.simulation.network import Weather

FEWEST_HOSTS = 3
_NEWCOMER_LOOKS = 300  # each a hundredth of a second


class Faults(Catastrophes):
    """Does harm to hosts and to the network between them."""

    def choose(self, *, quorum_may_be_lost: bool) -> None:
        """What goes wrong in this run; a seed that has fewer kinds of faults has more of each."""
        self.kinds = sorted(self._chance.sample(sorted(KINDS), self._chance.randint(2, len(KINDS))))
        self.loses_quorum = self._chance.random() < 0.1 and quorum_may_be_lost

    def begin(self, until: float) -> None:
        """Do harm until then."""
        self._begin(self._run(until))

    async def _run(self, until: float) -> None:
        """One fault after the other, some at once, until then."""
        while self.kinds and self._loop.time() < until:
            kind = self._chance.choice(self.kinds)
            self._under_way.append(self._begin(getattr(self, f"_{kind}")()))
            await asyncio.sleep(self._chance.expovariate(self._a_second))
        await asyncio.sleep(until - self._loop.time())
        if self.loses_quorum:
            await self.lose_quorum()

    def heal(self) -> None:
        """Put everything right; whoever is off is switched on, but perhaps one, for long."""
        self._note("everything is put right")
        for task in self._under_way:
            task.cancel()
        self._network.cut.clear()
        self._network.weather = Weather()
        for host in self._hosts:
            host.disk.is_full, host.disk.failing = False, 0.0
            host.disk.dies_in = None
            host.guests.launch_fails = 0.0
            if not host.is_up or host.is_stopped:
                host.boot()
        for work in (self._use_all_again(), self.mend_voters(), self._seal_out()):
            self._begin(work)
        if self.loses_quorum or not self.all_remember:
            return  # who is gone may be the quorum that has all
        if any(not one.is_present or one.is_failed for one in self._hosts):
            return  # a second one that is gone may be the quorum
        if len(self._hosts) > FEWEST_HOSTS and self._chance.random() < 0.2:
            alone = self._where_one_alone_runs() if self._chance.random() < 0.6 else None
            self._take_away(alone or self._victim())

    def _where_one_alone_runs(self) -> Host | None:
        """A host with an exclusive guest: another must not start before it has surely ended."""
        for host in self._hosts:
            if any(guest.allocation.is_exclusive for guest in host.guests.running.values()):
                return host
        return None

    def _take_away(self, host: Host) -> None:
        """For long: it has no power; or its guests go on, and nobody hears of them."""
        way = self._chance.choice(("has no power", "is cut off", "hangs"))
        self._note(f"{host.name} {way} for long")
        match way:
            case "has no power":
                host.lose_power()
            case "is cut off":
                host.is_away = True
                self._network.cut.update(self._links_of(host))
            case "hangs":
                host.hang_for_long()

    def bring_back(self) -> bool:
        """Switch on, or let go on, who was gone for long; whether anybody was."""
        lost = [host for host in self._hosts if not host.is_present and not host.is_revoked]
        for host in lost:
            self._note(f"{host.name} comes back")
            self._network.cut.clear()
            host.go_on()
            if not host.is_up:  # a power fence ended it while it was away
                host.boot()
        return bool(lost)

    def _links_of(self, host: Host) -> list[tuple[str, str]]:
        others = [other.name for other in self._hosts if other is not host]
        return [link for one in others for link in ((host.name, one), (one, host.name))]

    # -- the network --------------------------------------------------------------------------

    async def _halves(self) -> None:
        names = [host.name for host in self._hosts]
        self._chance.shuffle(names)
        cut = self._chance.randint(1, len(names) - 1)
        links = [
            link for a in names[:cut] for b in names[cut:] for link in ((a, b), (b, a))
        ]  # fmt: skip
        await self._cut(links, f"partition: {names[:cut]} | {names[cut:]}")

    async def _one_way(self) -> None:
        victim = self._victim().name
        others = [host.name for host in self._hosts if host.name != victim]
        some = self._chance.sample(others, self._chance.randint(1, len(others)))
        deaf = self._chance.random() < 0.5
        links = [(other, victim) if deaf else (victim, other) for other in some]
        await self._cut(links, f"one-way: {victim} {'hears' if deaf else 'reaches'} no {some}")

    async def _isolate(self) -> None:
        victim = self._leader()
        await self._cut(self._links_of(victim), f"{victim.name} is alone")

    async def _weather(self) -> None:
        weather = Weather(
            slowest_seconds=self._chance.choice((0.003, 0.05, 0.3, 3.0)),
            loss=self._chance.choice((0.0, 0.02, 0.2)),
            repetition=self._chance.choice((0.0, 0.05, 0.3)),
            reorders=self._chance.random() < 0.5,
        )
        self._note(f"{weather}")
        self._network.weather = weather
        await self._for_a_while(0.5, 4.0)
        self._network.weather = Weather()

    # -- hosts --------------------------------------------------------------------------------

    async def _pause(self) -> None:
        host, whole = self._victim(), self._chance.random() < 0.5
        seconds = self._chance.uniform(0.2, 4.0)
        self._note(f"{host.name} {'stands still' if whole else 'is stopped'} for {seconds:.1f} s")
        host.pause(seconds, whole=whole)

    async def _hang(self) -> None:
        host, seconds = self._victim(), self._chance.uniform(1.0, 12.0)
        self._note(f"the agent of {host.name} hangs for {seconds:.1f} s")
        host.hang(seconds)

    async def _fail_agent(self) -> None:
        """For healers: never more than one, so that there is a quorum to send them."""
        host = self._victim()
        if self._can_do_without(host):
            self._note(f"the agent of {host.name} stays down")
            host.fail_agent()

    async def _kill_agent(self) -> None:
        host = self._victim()
        self._note(f"kill -9 of the agent of {host.name}")
        host.kill_agent()

    async def _kill_raft(self) -> None:
        host = self._victim()
        self._note(f"kill -9 of the raft process of {host.name}")
        host.kill_raft()

    async def _power(self) -> None:
        host = self._victim()
        self._end(host, self._chance.choice((0, 0, 1, 2, 5)))
        await self._for_a_while(0.2, 6.0)
        if not host.is_up:
            host.boot()

    def _end(self, host: Host, uses: int) -> None:
        """Its power goes: at once, or before so many more writes are done."""
        self._note(f"{host.name} loses its power" + f" at its write {uses}" * bool(uses))
        if uses:
            host.disk.dies_in = uses
        else:
            host.lose_power()

    async def _power_of_all(self) -> None:
        uses = self._chance.choice((0, 1, 2))
        for host in self._hosts:
            self._end(host, uses)
        await self._for_a_while(0.1, 1.0)
        for host in self._hosts:
            if not host.is_up:
                host.boot()
            await self._for_a_while(0.0, 0.3)

    async def _forgetful(self) -> None:
        """Whoever follows loses what it is just about to write, and then the leader is away."""
        leader = self._leader()
        for host in self._hosts:
            if host is not leader:
                self._end(host, self._chance.randint(1, 3))
        await self._for_a_while(0.05, 0.6)
        self._end(leader, 0)
        for host in self._hosts:
            if host is not leader and not host.is_up:
                host.boot()
        await self._for_a_while(1.5, 4.0)
        if not leader.is_up:
            leader.boot()

    async def _in_turn(self) -> None:
        """One after the other is alone, and another one loses its power meanwhile."""
        for _ in range(4):
            alone, dies = self._chance.sample(self._hosts, 2)
            links = [(alone.name, other.name) for other in self._hosts if other is not alone]
            links += [(b, a) for a, b in links]
            self._end(dies, 0)
            dies.boot()
            await self._cut(links, f"{alone.name} is alone for its turn", 0.9, 1.8)

    async def _clock(self) -> None:
        host, jump = self._victim(), self._chance.choice((-3600.0, -30.0, -1.0, 1.0, 30.0, 3600.0))
        self._note(f"the clock of {host.name} jumps by {jump:g} s")
        host.clock.jump_seconds += jump

    async def _bad_disk(self) -> None:
        host = self._victim()
        self._note(f"the disk of {host.name} fails")
        host.disk.failing = self._chance.choice((0.02, 0.2, 1.0))
        await self._for_a_while(0.2, 3.0)
        host.disk.failing = 0.0

    async def _full_disk(self) -> None:
        host = self._victim()
        self._note(f"the disk of {host.name} is full")
        host.disk.is_full = True
        await self._for_a_while(0.2, 4.0)
        host.disk.is_full = False

    async def _move(self) -> None:
        self._move_to_another_address(self._victim())

    async def _move_apart(self) -> None:
        """While it hears nobody: none of the others sees it go, nor it theirs."""
        moving = self._chance.sample(self._hosts, self._chance.randint(1, len(self._hosts) - 1))
        links = [link for one in moving for link in self._links_of(one)]
        cut = self._begin(self._cut(links, f"{[one.name for one in moving]} are apart"))
        for host in moving:
            await self._for_a_while(0.0, 0.2)
            self._move_to_another_address(host)
        await cut

    def _move_to_another_address(self, host: Host) -> None:
        self._moves += 1
        address = f"10.0.{self._moves}.{host.name.removeprefix('m')}"
        self._note(f"{host.name} moves to {address}")
        host.move(address)

    async def _join(self) -> None:
        host = self._new_host()
        if host is not None:
            self._note(f"{host.name} joins")
            host.boot()

    async def _leave(self) -> None:
        """A host is taken away in order, one at a time: drained, stopped. It comes back."""
        host = self._some()
        if self._drained is not None:
            return
        self._drained = host
        self._note(f"{host.name} is drained, and is to leave")
        await self._operator.submit(CordonMember(host.name, drain=True))
        await self._for_a_while(0.5, 4.0)
        host.stop_agent()
        await self._for_a_while(0.5, 6.0)
        if host.is_stopped:
            self._note(f"{host.name} is started again")
            host.boot()
        await self._use_again(host)
        self._drained = None

    async def _newcomer(self) -> None:
        """Just as a voter is added another one loses its power; whose place it takes is drained."""
        before = self._watch.newest().electorate
        host = self._victim()
        if self._drained is not None or host.name not in before:
            return
        self._drained = host
        self._note(f"{host.name} is drained, and another is to vote")
        await self._operator.submit(CordonMember(host.name, drain=True))
        for _ in range(_NEWCOMER_LOOKS):
            await asyncio.sleep(0.01)
            if len(self._watch.newest().electorate) > len(before):
                dies = self._chance.choice([one for one in self._hosts if one.name in before])
                self._end(dies, 0)
                await self._for_a_while(0.2, 8.0)
                if not dies.is_up:
                    dies.boot()
                break
        await self._use_again(host)
        self._drained = None

    async def _use_again(self, host: Host) -> None:
        while await self._operator.submit(UncordonMember(host.name)) is None:
            pass

    async def _use_all_again(self) -> None:
        """For good: a drain whose outcome nobody knew may come late."""
        while True:
            state = self._watch.newest()
            for name in sorted(one for one in state.cordons if one not in state.revoked):
                await self._operator.submit(UncordonMember(name))
            await asyncio.sleep(1.0)

    async def _snapshot(self) -> None:
        host = self._victim()
        self._note(f"a snapshot of {host.name}")
        with contextlib.suppress(SappersError):
            await ask(self._loop, host, lambda agent: agent.log.trigger_snapshot(), 3.0)

    async def _transfer(self) -> None:
        leader, other = self._leader(), self._some()
        self._note(f"{leader.name} is asked to let {other.name} lead")
        with contextlib.suppress(SappersError):
            await ask(
                self._loop,
                leader,
                lambda agent: agent.log.transfer_leadership(other.name, 2.0),
                3.0,
            )

    # -- guests and workloads -----------------------------------------------------------------

    async def _guest(self) -> None:
        host = self._some()
        running: list[Any] = [guest for _, guest in sorted(host.guests.running.items())]
        if running:
            guest = self._chance.choice(running)
            dies = self._chance.random() < 0.5
            self._note(f"{guest.allocation.id} {'dies' if dies else 'falls silent'}")
            guest.is_running, guest.is_silent = not dies, True

    async def _workload(self) -> None:
        name = self._chance.choice(("web", "db", "late"))
        wanted = Workload(
            name,
            IMAGE,
            memory_mib=self._chance.choice((64, 128)),
            guest_port=80,
            count=1 if name == "db" else self._chance.randint(1, 3),
            exclusive=name == "db",
        )
        command = StopWorkload(name) if self._chance.random() < 0.2 else PutWorkload(wanted)
        self._note(f"operator: {command}")
        await self._operator.submit(command)


_NO_KINDS = frozenset({"_fail_agent", "_run", "_seal_out", "_use_again", "_use_all_again"})
KINDS = frozenset(
    name[1:]
    for name, method in {**vars(Catastrophes), **vars(Faults)}.items()
    if asyncio.iscoroutinefunction(method) and name.startswith("_") and name not in _NO_KINDS
)
