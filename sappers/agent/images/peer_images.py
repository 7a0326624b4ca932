"""What other members have of images: learned by asking them, kept current by questions that wait.

Gossip says who has anything of an image; where it says nothing (its messages have little room, and
news takes a moment) everyone alive is asked. In a large cluster a member asks a few others only,
and other ones after a while: chunks come to all of them over few steps anyway.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial

import msgspec
import structlog

from sappers.agent.images.holdings import Holding
from sappers.errors import ApiError
from sappers.model.chunks_here import ChunksHere
from sappers.model.known_types import UNREADABLE
from sappers.model.member import Member, MemberState
from sappers.ports import Clock, PeerClient

ASKED_MAX = 8
ASKED_FOR_SECONDS = 30.0
QUESTIONS_MAX = 32
WAIT_SECONDS = 10.0
CALL_SECONDS = 15.0
ASK_AGAIN_SECONDS = 1.0
REST_SECONDS = 1.0
REST_SECONDS_MAX = 30.0
BUSY_SECONDS = 0.5
PREFIX_DIGITS = 8

log = structlog.get_logger(__name__)

_Question = tuple[str, str]  # digest of an image, member id


class PeerImages:
    """Bitmaps of other members, and which members are better left alone for a while."""

    def __init__(
        self,
        *,
        me_id: str,
        peers: PeerClient,
        members: Callable[[], Sequence[Member]],
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._me_id = me_id
        self._peers = peers
        self._members = members
        self._clock = clock
        self._wake = wake
        self._has: dict[str, dict[str, set[str]]] = {}
        self._answers: dict[_Question, ChunksHere] = {}
        self._questions: dict[_Question, asyncio.Task[None]] = {}
        self._ask_again_at: dict[_Question, float] = {}
        self._resting_until: dict[str, float] = {}
        self._failures: dict[str, int] = {}

    # -- who ----------------------------------------------------------------------------------

    def candidates(self, digest: str) -> tuple[Member, ...]:
        """Members to ask about an image, best first: those that gossip says have of it, or all."""
        now = self._clock.monotonic()
        turn = int(now // ASKED_FOR_SECONDS)
        alive = [member for member in self._alive() if not self._rests(member.id, now)]
        listed = [member for member in alive if digest[:PREFIX_DIGITS] in member.images]

        def lot(member: Member) -> str:
            text = f"{self._me_id} {member.id} {digest} {turn}"
            return hashlib.sha256(text.encode()).hexdigest()

        return tuple(sorted(listed or alive, key=lot)[:ASKED_MAX])

    def member(self, member_id: str) -> Member | None:
        """A member that is alive."""
        return next((one for one in self._alive() if one.id == member_id), None)

    def holders(self, digest: str) -> Mapping[str, AbstractSet[str]]:
        """By member id: chunks that it has of an image; of members that may be asked now."""
        now = self._clock.monotonic()
        has = self._has.get(digest, {})
        alive = {member.id for member in self._alive()}
        return {
            member_id: chunks
            for member_id, chunks in has.items()
            if member_id in alive and not self._rests(member_id, now)
        }

    def _alive(self) -> list[Member]:
        return [
            member
            for member in self._members()
            if member.id != self._me_id and member.state is MemberState.ALIVE
        ]

    # -- how they behave ----------------------------------------------------------------------

    def served(self, member_id: str) -> None:
        """A member did what it was asked for."""
        self._failures.pop(member_id, None)

    def busy(self, member_id: str) -> None:
        """A member has no slot free; that is no fault of it."""
        self._resting_until[member_id] = self._clock.monotonic() + BUSY_SECONDS

    def failed(self, member_id: str) -> None:
        """A member is out of reach, broken, or sends what is damaged: left alone ever longer."""
        failures = self._failures[member_id] = self._failures.get(member_id, 0) + 1
        rest = min(REST_SECONDS * 2.0 ** (failures - 1), REST_SECONDS_MAX)
        self._resting_until[member_id] = self._clock.monotonic() + rest

    def lacks(self, member_id: str, chunk: str) -> None:
        """A member has not got a chunk, whatever it said; it is asked again what it has."""
        for digest, has in self._has.items():
            if chunk in has.get(member_id, ()):
                has[member_id].discard(chunk)
                question = (digest, member_id)
                self._answers.pop(question, None)
                self._ask_again_at[question] = self._clock.monotonic() + REST_SECONDS

    def _rests(self, member_id: str, now: float) -> bool:
        return self._resting_until.get(member_id, 0.0) > now

    # -- asking -------------------------------------------------------------------------------

    def ask(self, held: Holding) -> None:
        """See to it that the members worth asking are being asked about this image."""
        now = self._clock.monotonic()
        for member in self.candidates(held.digest):
            question = (held.digest, member.id)
            answer = self._answers.get(question)
            if answer is not None and answer.count == len(held.order):
                continue  # it has everything, until it says otherwise of a chunk
            if question in self._questions or self._ask_again_at.get(question, 0.0) > now:
                continue
            if len(self._questions) >= QUESTIONS_MAX:
                return
            task = asyncio.create_task(self._ask(held, member, answer))
            self._questions[question] = task
            task.add_done_callback(partial(self._asked, question))

    def forget(self, digest: str) -> None:
        """Nothing of this image is needed from others any more."""
        self._has.pop(digest, None)
        for table in (self._answers, self._ask_again_at):
            for question in [one for one in table if one[0] == digest]:
                table.pop(question)
        for question, task in self._questions.items():
            if question[0] == digest:
                task.cancel()

    async def close(self) -> None:
        """Ask no more."""
        tasks = list(self._questions.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _asked(self, question: _Question, _: asyncio.Task[None]) -> None:
        self._questions.pop(question, None)
        self._wake()

    async def _ask(self, held: Holding, member: Member, last: ChunksHere | None) -> None:
        """One question; from the second on the answer comes when there is something new."""
        question = (held.digest, member.id)
        path = f"/v1/images/{held.digest}/chunks"
        if last is not None:
            path += f"?seen={last.count}&wait_seconds={WAIT_SECONDS:g}"
        again_at = self._clock.monotonic() + ASK_AGAIN_SECONDS
        try:
            content = await self._peers.call(member, "GET", path, timeout_seconds=CALL_SECONDS)
            answer = msgspec.json.decode(content, type=ChunksHere)
        except (ApiError, *UNREADABLE) as error:
            self._ask_again_at[question] = self._clock.monotonic() + ASK_AGAIN_SECONDS
            self._answers.pop(question, None)
            if not isinstance(error, ApiError) or error.status != 404:
                log.info("image not asked for", image=held.name, of=member.name, error=str(error))
                self.failed(member.id)
            return
        if answer == last:
            self._ask_again_at[question] = again_at  # long past, if it waited for news as asked
        self._answers[question] = answer
        self._has.setdefault(held.digest, {})[member.id] = set(answer.chunks(held.order))
