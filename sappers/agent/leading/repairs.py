"""The leader's side of repairs: healers claim their credentials here and report their steps.

Invariant: a credential is signed only after the claim of it is committed, for that claim's key and
until its deadline however often, by whichever member leads; a step is acknowledged only after it is
committed. What a guest says is believed of its own repair alone: the hub lets each publish below
its own subject.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

import msgspec
import structlog

from sappers.agent.own_proposals import OwnProposals
from sappers.decisions.healing import REPAIR_SECONDS
from sappers.errors import CommandRefused, IdentityError, OutcomeUnknown, SappersError
from sappers.model import subjects
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Command
from sappers.model.known_types import UNREADABLE
from sappers.model.observation import RaftRole
from sappers.model.refusal import RefusalKind
from sappers.model.repair import (
    HEALER_IMAGES,
    Answer,
    Claim,
    Credential,
    Repair,
    RepairKey,
    RepairLogin,
    ReportedStep,
)
from sappers.model.repair_commands import ClaimRepair, CountRefusedRepair, ReportRepairStep
from sappers.ports import Clock, HubClient, Refusals, RepairSigner, ReplicatedLog

PROPOSE_SECONDS = 5.0
PAYLOAD_BYTES_MAX = 4096
TEXT_LENGTH_MAX = 400
REASON_LENGTH_MAX = 160
# What is refused is committed at once, but then not more often: a flood must not fill the log.
COUNT_EVERY_SECONDS = 10.0

log = structlog.get_logger(__name__)
_T = TypeVar("_T")


class Repairs:
    """Answers healers while this member leads; any other member stays silent."""

    def __init__(
        self,
        log_now: Callable[[], ReplicatedLog],
        proposals: OwnProposals,
        clock: Clock,
        hub: HubClient,
        signer: RepairSigner,
        image_signers: Callable[[str], Awaitable[Collection[str]]],
        refusals: Refusals,
    ) -> None:
        """`image_signers` has the keys that truly signed an image, by its digest."""
        self._log_now = log_now
        self._proposals = proposals
        self._clock = clock
        self._hub = hub
        self._signer = signer
        self._image_signers = image_signers
        self._refusals = refusals
        self._uncounted: dict[str, _Uncounted] = {}

    async def hear(self, subject: str, payload: bytes) -> None:
        """A healer asks for the credential of its repair, or says what it is about to do."""
        allocation_id = subjects.allocation_of(subject)
        answer = self._claim if subject == subjects.repair_claim(allocation_id) else self._report
        if self._log_now().status().role is not RaftRole.LEADER:
            return
        state = self._log_now().state()
        try:
            repair = _repair_of(state, allocation_id)
            if repair is None:
                said = Answer(idle=True)
            elif len(payload) > PAYLOAD_BYTES_MAX:
                raise CommandRefused(f"a message of {len(payload)} bytes")
            else:
                said = await answer(state, repair, allocation_id, payload)
        except CommandRefused as refusal:
            said = Answer(refused=refusal.message)
            await self._count(state, allocation_id, refusal.message)
        except SappersError as error:
            log.warning("a healer is not answered", allocation=allocation_id, error=error.message)
            return  # it asks again, and there may be another leader then
        await self._hub.publish(subjects.repair_answer(allocation_id), msgspec.json.encode(said))

    async def _claim(
        self, state: ClusterState, repair: Repair, allocation_id: str, payload: bytes
    ) -> Answer:
        claim = _decode(payload, Claim)
        member = state.members.get(repair.member_id)
        if member is None:
            raise CommandRefused(f"{repair.id}: there is no member {repair.member_id} any more")
        login = state.repair_logins.get(member.id) if state.repair_key else None
        if state.repair_key is not None and login is not None:
            await self._require_vouched(state, state.repair_key, login, allocation_id)
        now = self._clock.now()
        until = await self._claimed_until(repair, allocation_id, claim.public_key, now)
        certificate = self._sign(state, repair, claim.public_key, now, until) if login else ""
        return Answer(
            Credential(
                repair_id=repair.id,
                attempt=repair.attempt,
                certificate=certificate,
                name=member.name,
                address=member.address,
                api_port=member.ports.http,
                login=login,
                seconds=until - now,
            )
        )

    async def _claimed_until(
        self, repair: Repair, allocation_id: str, public_key: str, now: float
    ) -> float:
        """The deadline of the committed claim; the same claim again costs no entry.

        Raises:
            CommandRefused: It is not this healer's turn, or too late, or another key has claimed.
            OutcomeUnknown: The claim is not known to be committed.
        """
        if repair.allocation_id == allocation_id and repair.is_held_with(public_key, now):
            return repair.deadline
        until = now + REPAIR_SECONDS
        await self._commit(ClaimRepair(repair.id, repair.attempt, allocation_id, until, public_key))
        # Not `until`: the leader before this one may have committed the same claim earlier.
        committed = self._log_now().state().repairs.get(repair.id, repair)
        if not committed.is_held_with(public_key, now):
            raise OutcomeUnknown(f"{repair.id}: the claim was committed, and is over already")
        return committed.deadline

    async def _require_vouched(
        self, state: ClusterState, key: RepairKey, login: RepairLogin, allocation_id: str
    ) -> None:
        """Operators may run images and commit much, and yet not become root by a healer.

        Raises:
            CommandRefused: The repair authority has not signed how to log in, or does not vouch for
                whoever signed the healer's image.
            ImageError: That image's manifest is not here.
        """
        try:
            self._signer.check(key, (login,))
        except IdentityError as error:
            raise CommandRefused(error.message) from error
        image = state.allocations[allocation_id].image
        if not set(await self._image_signers(image.digest)) & set(key.image_keys):
            raise CommandRefused(
                f"image {image.name} {image.digest[:12]} is signed by no key that bootstrap "
                "vouched for as healers'"
            )

    def _sign(
        self, state: ClusterState, repair: Repair, public_key: str, now: float, until: float
    ) -> str:
        assert state.repair_key is not None, "there is a login"
        try:
            return self._signer.sign(
                state.repair_key,
                public_key,
                member_id=repair.member_id,
                key_id=f"{repair.id}/{repair.attempt}",
                now=now,
                until=until,
            )
        except IdentityError as error:
            raise CommandRefused(error.message) from error

    async def _report(
        self, state: ClusterState, repair: Repair, allocation_id: str, payload: bytes
    ) -> Answer:
        del state
        step = _decode(payload, ReportedStep)
        text = "".join(each if each.isprintable() else " " for each in step.text)
        await self._commit(
            ReportRepairStep(
                repair.id,
                repair.attempt,
                allocation_id,
                step.number,
                text[:TEXT_LENGTH_MAX],
                step.finding,
            )
        )
        return Answer(acknowledged=step.number)

    async def _commit(self, command: Command) -> None:
        """Raises CommandRefused, or any other SappersError when it is not known to be committed."""
        term = self._log_now().status().term
        await self._proposals.commit((command,), term, PROPOSE_SECONDS)

    async def _count(self, state: ClusterState, allocation_id: str, reason: str) -> None:
        """Have a refusal in the state, and so in `status` and among the events."""
        self._refusals.count(RefusalKind.CREDENTIAL, allocation_id)
        allocation = state.allocations.get(allocation_id)
        log.warning("a healer is refused", allocation=allocation_id, reason=reason)
        if allocation is None or not allocation.repair:
            return
        refused = self._uncounted.setdefault(allocation_id, _Uncounted())
        refused.times += 1
        now = self._clock.monotonic()
        if now < refused.next_at:
            return
        refused.next_at, count = now + COUNT_EVERY_SECONDS, refused.times
        refused.times = 0
        command = CountRefusedRepair(
            allocation.repair, allocation_id, reason[:REASON_LENGTH_MAX], count
        )
        try:
            await self._commit(command)
        except SappersError as error:
            log.warning("a refusal is not counted", allocation=allocation_id, error=error.message)

    def keep_only(self, allocation_ids: set[str]) -> None:
        """Forget guests that are in the state no more."""
        for allocation_id in self._uncounted.keys() - allocation_ids:
            del self._uncounted[allocation_id]


class _Uncounted(msgspec.Struct):
    """Of one guest: refusals that are not committed yet, and when they may be."""

    times: int = 0
    next_at: float = 0.0


def healers_to_hear(state: ClusterState) -> dict[str, tuple[str, ...]]:
    """What the leader listens to, by allocation id: guests of the healer's image alone. Pure."""
    return {
        allocation.id: (subjects.repair_claim(allocation.id), subjects.repair_step(allocation.id))
        for allocation in state.allocations.values()
        if not allocation.status.is_terminal
        and (allocation.repair or allocation.image.name in HEALER_IMAGES)
    }


def _repair_of(state: ClusterState, allocation_id: str) -> Repair | None:
    """The repair that a guest is the healer of; None for one that the image was run as by hand.

    Raises:
        CommandRefused: It is none, or its repair is forgotten.
    """
    allocation = state.allocations.get(allocation_id)
    if allocation is not None and not allocation.repair and allocation.image.name in HEALER_IMAGES:
        return None
    repair = state.repairs.get(allocation.repair) if allocation is not None else None
    if repair is None:
        raise CommandRefused(f"{allocation_id} is no healer")
    return repair


def _decode(payload: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(payload, type=kind)
    except UNREADABLE as error:
        raise CommandRefused(f"that is no {kind.__name__.lower()}: {error}") from error
