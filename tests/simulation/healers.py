"""Healers simulated: they claim, log in, restart an agent, and say each step before they do it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec

from sappers.model import subjects
from sappers.model.repair import Answer, Claim, Credential, Finding, ReportedStep
from tests.simulation.loop import Life

if TYPE_CHECKING:
    from tests.simulation.guests import Guest
    from tests.simulation.hosts import Surroundings

ASK_AGAIN_SECONDS = 0.5
UNREACHABLE_AFTER_SECONDS = 40.0
LOOK_SECONDS = 0.25


class _Ended(Exception):
    """The guest is no more, or its time is up."""


class Healer:
    """What runs in the guest of a repair; a client of the hub, too, as `Hub.clients` has them."""

    def __init__(self, around: Surroundings, guest: Guest, host: str, named: Any) -> None:
        self.host, self.named = host, named
        self._around = around
        self._guest = guest
        self._id = guest.allocation.id
        self.life = Life(f"{host}#{self._id}", around.hosts[host].clock.monotonic)
        self._answers: asyncio.Queue[Answer] = asyncio.Queue()
        self._until = float("inf")
        around.hub.clients.append(self)
        around.loop.create_task(self._live(), context=self.life.context)

    def hears(self, subject: str) -> bool:
        return subject == subjects.repair_answer(self._id)

    def arrive(self, subject: str, payload: bytes) -> None:
        assert self.hears(subject)
        self._answers.put_nowait(msgspec.json.decode(payload, type=Answer))

    async def _live(self) -> None:
        with contextlib.suppress(_Ended):
            credential = await self._claim()
            if credential is not None:
                self._until = self._around.loop.time() + credential.seconds
                if credential.login is None:
                    await self._look()
                else:
                    await self._repair(credential.login.member_id)
        self._around.watch.healer_ends(self._id)
        self._around.hub.clients.remove(self)

    async def _claim(self) -> Credential | None:
        dice = self._around.hosts[self.host].chance
        key = f"ssh-ed25519 {dice.getrandbits(256):064x}AAAA"
        answer = await self._ask(
            subjects.repair_claim(self._id), Claim(key), lambda one: one.credential is not None
        )
        return answer.credential if answer else None

    async def _look(self) -> None:
        """At a host that joined since operators said how to log in."""
        if await self._say(1, "the cluster has no key for its host"):
            await self._say(2, "it does not answer", Finding.UNREACHABLE)

    async def _repair(self, member: str) -> None:
        watch, target = self._around.watch, self._around.hosts[member]
        watch.healer_works(self._id, member)
        if not await self._say(1, "logging in"):
            return
        if not await self._reaches(member):
            await self._say(2, "no SSH connection can be had", Finding.UNREACHABLE)
            return
        if not await self._say(2, "restarting the agent"):
            return
        if not self._talks(member):
            await self._say(3, "the connection is gone", Finding.FAILED)
            return
        target.repair_agent()
        watch.repaired(member)
        await self._sleep(4.0)
        restored = target.reachable is not None
        await self._say(3, "done", Finding.RESTORED if restored else Finding.FAILED)

    async def _reaches(self, member: str) -> bool:
        deadline = self._around.loop.time() + UNREACHABLE_AFTER_SECONDS
        while not self._talks(member):
            if self._around.loop.time() >= deadline:
                return False
            await self._sleep(1.0)
        return True

    def _talks(self, member: str) -> bool:
        target, network = self._around.hosts[member], self._around.network
        return target.is_up and not target.is_frozen and network.talk(self.host, member)

    async def _say(self, number: int, text: str, finding: Finding | None = None) -> bool:
        """Whether the step is committed: a healer does nothing before."""
        step = ReportedStep(number, text, finding)
        answer = await self._ask(
            subjects.repair_step(self._id), step, lambda one: one.acknowledged == number
        )
        return answer is not None

    async def _ask(self, subject: str, what: msgspec.Struct, fits: Any) -> Answer | None:
        """The answer to it, asked again and again; None once it is refused."""
        while True:
            self._around.hub.publish(self.host, self.named, subject, msgspec.json.encode(what))
            await self._sleep(ASK_AGAIN_SECONDS)
            while not self._answers.empty():
                answer = self._answers.get_nowait()
                if fits(answer):
                    return answer
                if answer.refused or answer.idle:
                    return None

    async def _sleep(self, seconds: float) -> None:
        frozen = self._around.hosts[self.host]
        await asyncio.sleep(seconds)
        while frozen.is_frozen and self._guest.is_running:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
        if not self._guest.is_running or self._around.loop.time() >= self._until:
            raise _Ended
