"""Operators: they write and read registers all the time, and note what they were told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sappers.agent.agent import Agent
from sappers.api.catching_up import state_at_least
from sappers.errors import OutcomeUnknown, SappersError
from sappers.model.commands import Command, NoOperation, Proposal, PutWorkload
from sappers.model.workload import ImageReference, Workload
from sappers.ports import Applied
from tests.chaos.history import UNKNOWN, Operation
from tests.simulation.hosts import Host
from tests.simulation.loop import VirtualLoop

IMAGE = ImageReference("app", "a" * 64)
_ATTEMPTS = 3
_PATIENCE_SECONDS = 3.0
_ASKED_AGAIN = 6


async def ask(
    loop: VirtualLoop, host: Host, work: Callable[[Agent], Awaitable[Any]], seconds: float
) -> Any:
    """What the host's agent answers.

    Raises:
        SappersError: It answers so.
        OutcomeUnknown: It does not answer.
    """
    reachable = host.reachable
    if reachable is None:
        raise SappersError(f"{host.name} cannot be reached")
    answered: asyncio.Future[Any] = loop.create_future()

    async def serve() -> None:
        answer: Any
        try:
            answer = await work(reachable.agent)
        except SappersError as error:
            answer = error
        if not answered.done():
            answered.set_result(answer)

    loop.create_task(serve(), context=reachable.life.context)
    try:
        async with asyncio.timeout(seconds):
            answer = await answered
    except TimeoutError:
        raise OutcomeUnknown(f"{host.name} does not answer") from None
    if isinstance(answer, SappersError):
        raise answer
    return answer


class Register:
    """A workload of no copies, whose memory is the register's value."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.told: list[Operation] = []
        self.unknown: list[Operation] = []
        self.open: dict[object, Operation] = {}
        self.last_written = 0
        self.before: list[list[Operation]] = []

    @property
    def history(self) -> list[Operation]:
        """What clients were told, and what may have happened beside it."""
        return [*self.told, *self.unknown, *self.open.values()]

    def begin_anew(self, value: int, now: float) -> None:
        """Some of what was written may be given up: from now on it has this value."""
        self.before.append(self.history)
        self.told = [Operation("write", value, now, now)] * bool(value)
        self.unknown = []
        self.open = {key: one for key, one in self.open.items() if one.value != value}

    def put(self, value: int) -> Command:
        return PutWorkload(Workload(self.name, IMAGE, memory_mib=value, count=0))


class Client:
    """One operator, who does one thing after the other."""

    def __init__(
        self,
        name: str,
        loop: VirtualLoop,
        hosts: Sequence[Host],
        registers: Sequence[Register],
        chance: random.Random,
    ) -> None:
        self._name = name
        self._loop = loop
        self._hosts = hosts
        self._registers = registers
        self._chance = chance
        self._number = 0
        self.acknowledged: dict[str, tuple[int, int]] = {}
        self.rejected: set[str] = set()
        self._sent: list[tuple[str, Register, int]] = []

    async def run(self, until: float) -> None:
        """Write and read until then."""
        while self._loop.time() < until:
            register = self._chance.choice(self._registers)
            dice = self._chance.random()
            if dice < 0.1 and self._sent:
                await self._ask_again(*self._chance.choice(self._sent))
            elif dice < 0.6:
                await self._write(register)
            else:
                await self._read(register)
            await asyncio.sleep(self._chance.uniform(0.02, 0.25))

    async def run_again(self, until: float, was_applied: Callable[[str], bool]) -> None:
        """The same after `raft recover`, and first it asks again for some of what it wanted.

        Args:
            was_applied: Whether a request is one of those that were not given up.
        """
        sent = self._sent
        self._sent = [one for one in sent if was_applied(one[0])]
        for request_id, register, value in self._chance.sample(sent, min(_ASKED_AGAIN, len(sent))):
            if was_applied(request_id):
                await self._ask_again(request_id, register, value)
            else:
                await self._write_as(request_id, register, value)
        await self.run(until)

    async def _ask_again(self, request_id: str, register: Register, value: int) -> None:
        """Nothing comes of it, or what would have come of it before."""
        await self._submit(request_id, (register.put(value),), is_first=False)

    async def submit(self, *commands: Command) -> Applied | None:
        """Have commands committed, the same request again and again; None when nobody can tell.

        A refusal by the state machine counts as committed.
        """
        self._number += 1
        return await self._submit(f"{self._name}/{self._number}", commands)

    async def _submit(
        self, request_id: str, commands: tuple[Command, ...], *, is_first: bool = True
    ) -> Applied | None:
        maybe = not is_first
        for _ in range(_ATTEMPTS):
            host = self._chance.choice(self._hosts)
            proposal = Proposal(request_id, self._name, self._loop.time(), commands)
            try:
                applied: Applied = await ask(
                    self._loop,
                    host,
                    lambda agent, p=proposal: agent.service.propose(p, 1.5),
                    _PATIENCE_SECONDS,
                )
            except OutcomeUnknown:
                maybe = True
            except SappersError:
                await asyncio.sleep(0.1)
            else:
                if not applied.refused:
                    self.acknowledged[request_id] = (applied.index, applied.term)
                return applied
        if not maybe:
            self.rejected.add(request_id)
        return None

    async def _write(self, register: Register) -> None:
        register.last_written += 1
        self._number += 1
        await self._write_as(f"{self._name}/{self._number}", register, register.last_written)

    async def _write_as(self, request_id: str, register: Register, value: int) -> None:
        asked_at = self._loop.time()
        key = object()
        register.open[key] = Operation("write", value, asked_at, UNKNOWN)
        applied = await self._submit(request_id, (register.put(value),))
        if request_id not in self.rejected:
            self._sent.append((request_id, register, value))
        asked = register.open.pop(key, None)
        if asked is None:
            return  # it was done when a new history began
        if applied is not None and not applied.refused:
            done = Operation("write", value, asked_at, self._loop.time())
            register.told.append(done)
        elif applied is None and request_id not in self.rejected:
            register.unknown.append(asked)  # nobody knows, for ever

    async def _read(self, register: Register) -> None:
        asked_at = self._loop.time()
        proposal = Proposal(f"read/{self._name}/{asked_at}", self._name, 0.0, (NoOperation(),))

        async def read(agent: Agent) -> int:
            """As the API's linearizable reads, at any member."""
            applied = await agent.service.propose(proposal, 1.0)
            state = await state_at_least(agent.service, applied.index, applied.term)
            workload = state.workloads.get(register.name)
            return workload.memory_mib if workload else 0

        try:
            value = await ask(self._loop, self._chance.choice(self._hosts), read, 3.0)
        except SappersError:
            return
        register.told.append(Operation("read", value, asked_at, self._loop.time()))
