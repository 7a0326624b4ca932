"""The healer: brings back one member's host over SSH, then ends.

It claims the credential of its repair with a key that it has just made, logs in with the
certificate that comes back, and has each step committed before it does it. Without a repair to do
(the image was run by hand) it stays healthy and idle.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sappers.model.repair import Credential, Finding
    from sappers.provisioner.repair.login import RepairKeyPair
    from sappers.sidecar.guest import Guest

ASK_AGAIN_SECONDS = 2.0
COMMIT_SECONDS = 30.0
# A host that boots anew answers in this time, or is taken for gone.
REACHABLE_SECONDS = 40.0
REACH_AGAIN_SECONDS = 3.0
LINGER_SECONDS = 60.0  # the leader stops a healer whose repair is over; one that it forgot ends


class Refused(Exception):
    """The leader takes no more of this healer's word."""


async def run(guest: Guest) -> None:
    """Repair, if there is something to repair."""
    guest.report()
    await guest.hub_connected()
    leader = Leader(guest)
    await leader.listen()
    # Late on purpose: what these libraries draw when they are imported must be this guest's alone.
    key = await asyncio.to_thread(_make_key)
    try:
        credential = await leader.claim(key.public)
        if credential is None:
            await asyncio.Event().wait()
            return
        async with asyncio.timeout(credential.seconds):
            await repair(leader, key, credential)
    except (Refused, TimeoutError) as error:
        guest.report(f"{error or 'there is no time left'}")
    await asyncio.sleep(LINGER_SECONDS)
    guest.end()


async def repair(leader: Leader, key: RepairKeyPair, credential: Credential) -> None:
    """One attempt, from the log-in to the last word."""
    loop = asyncio.get_running_loop()

    def report(text: str) -> None:
        asyncio.run_coroutine_threadsafe(leader.report(text), loop).result()

    finding, text = await asyncio.to_thread(_repair, key, credential, report)
    await leader.report(text, finding)


def _make_key() -> RepairKeyPair:
    from sappers.provisioner.repair.login import RepairKeyPair

    return RepairKeyPair()


def _repair(key: RepairKeyPair, credential: Credential, report: Any) -> tuple[Finding, str]:
    """Blocking; what came of it, and a sentence about it."""
    import time

    from sappers.errors import HostError, HostUnreachable
    from sappers.model.repair import Finding
    from sappers.provisioner.repair.login import RepairTarget, open_executor
    from sappers.provisioner.repair.restore import restore_host

    login = credential.login
    if login is None:
        return _look(credential, report)
    target = RepairTarget(
        name=credential.name,
        address=credential.address,
        port=login.port,
        user=login.user,
        become=login.become,
        host_keys=login.host_keys,
    )
    report(f"logging in as {target.user} at {target.address} port {target.port}")
    deadline, reached = time.monotonic() + REACHABLE_SECONDS, False
    while True:
        try:
            with open_executor(target, key, credential.certificate) as executor:
                reached = True
                holder = f"{credential.repair_id}, attempt {credential.attempt}"
                return restore_host(executor, holder, report, login.start)
        except HostUnreachable as error:
            if time.monotonic() > deadline:
                return Finding.FAILED if reached else Finding.UNREACHABLE, error.message
            time.sleep(REACH_AGAIN_SECONDS)
        except HostError as error:
            return Finding.FAILED, error.message


def _look(credential: Credential, report: Any) -> tuple[Finding, str]:
    """Of a host that nobody gave the cluster a key for, as much as shows from outside."""
    from sappers.model.repair import Finding
    from sappers.provisioner.repair.login import knock

    place = f"{credential.address} port {credential.api_port}"
    report(f"the cluster has no key for its host; looking whether its agent answers at {place}")
    why = knock(credential.address, credential.api_port) or "it answers, but gossip has it dead"
    return Finding.UNREACHABLE, f"the cluster has no key for its host; {place}: {why}"


class Leader:
    """The leader, over the hub: whoever it is, it answers on this guest's own subject."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()
        self._steps = 0

    async def listen(self) -> None:
        """Hear the answers from now on."""
        from sappers.model import subjects

        async def take(subject: str, payload: bytes) -> None:
            del subject
            self._answers.put_nowait(payload)

        await self._guest.subscribe(subjects.repair_answer(self._guest.allocation_id), take)

    async def claim(self, public_key: str) -> Credential | None:
        """This repair's credential, or None when there is no repair.

        Raises:
            Refused: It is another's, or it is too late.
        """
        from sappers.model.repair import Claim

        while True:
            answer = await self._ask("repair.claim", Claim(public_key))
            if answer.credential is not None or answer.idle:
                return answer.credential

    async def report(self, text: str, finding: Finding | None = None) -> None:
        """Return once the step is committed.

        Raises:
            Refused: It is not this healer's turn any more.
            TimeoutError: Nobody commits it.
        """
        from sappers.model.repair import ReportedStep

        self._steps += 1
        step = ReportedStep(self._steps, text, finding)
        async with asyncio.timeout(COMMIT_SECONDS):
            while (await self._ask("repair.step", step)).acknowledged < step.number:
                pass

    async def _ask(self, name: str, message: Any) -> Any:
        """Say it again until somebody answers."""
        import msgspec

        from sappers.model.repair import Answer

        payload = msgspec.json.encode(message)
        while True:
            await self._guest.publish(name, payload)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ASK_AGAIN_SECONDS):
                    answer = msgspec.json.decode(await self._answers.get(), type=Answer)
                if answer.refused:
                    raise Refused(answer.refused)
                return answer
