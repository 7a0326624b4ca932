"""Proposing from anywhere: here when this member leads, else through the leader's API."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec

from sappers.decisions.formats import members_behind
from sappers.errors import (
    ApiError,
    CommandRefused,
    MemberUnreachable,
    NoQuorum,
    OutcomeUnknown,
    ProposalRejected,
)
from sappers.model.commands import Proposal, encode_proposal, format_needed
from sappers.model.known_types import UNREADABLE
from sappers.model.member import Member
from sappers.model.observation import RaftRole
from sappers.ports import Applied, MemberService, PeerClient

RETRY_SECONDS = 0.1
ATTEMPT_SECONDS = 3.0


class Proposer:
    """Retries until a deadline. A request id is applied once, so a retry is exact."""

    def __init__(self, service: MemberService, peers: PeerClient) -> None:
        self._service = service
        self._peers = peers

    async def propose(self, proposal: Proposal, timeout_seconds: float) -> Applied:
        """Commit a proposal within the time.

        Raises:
            CommandRefused: Not all members know what it is; says who.
            NoQuorum: No leader is known, or none could commit; nothing was committed.
            OutcomeUnknown: It may have been committed; retry with the same request id.
        """
        self._check_format(proposal)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        unknown: OutcomeUnknown | None = None
        reason = "no leader is known"
        while (left := deadline - loop.time()) > 0:
            try:
                applied = await self._attempt(proposal, min(left, ATTEMPT_SECONDS))
                if applied is not None:
                    return applied
            except ProposalRejected as error:
                reason = error.message
            except OutcomeUnknown as error:
                unknown = error
            await asyncio.sleep(min(RETRY_SECONDS, max(0.0, deadline - loop.time())))
        if unknown is not None:
            raise OutcomeUnknown(
                f"not known whether it is committed: {unknown.message}",
                hint="see sappers-deploy status; the same request again is committed once only",
            )
        raise NoQuorum(
            f"not committed within {timeout_seconds:g} s: {reason}",
            status=503,
            hint="sappers-deploy status shows which voters are missing",
        )

    def _check_format(self, proposal: Proposal) -> None:
        needed, state = format_needed(proposal.commands), self._service.log.state()
        if needed <= state.format:
            return
        behind = members_behind(state, self._service.members(), needed)
        names = ", ".join(f"{one.name} ({one.version}, {one.state})" for one in behind)
        raise CommandRefused(
            f"not all members know this yet: it needs format {needed} of the log, which has"
            f" {state.format}" + (f"; not known to {names}" if names else ""),
            hint="upgrade them: sappers-deploy bootstrap; who is gone for good:"
            " sappers-deploy forget NAME, or raft revoke NAME"
            if names
            else "the leader has it adopted in a moment: try again",
        )

    async def _attempt(self, proposal: Proposal, timeout_seconds: float) -> Applied | None:
        if self._service.log.status().role is RaftRole.LEADER:
            return await self._service.log.propose(proposal, timeout_seconds)
        leader = self._service.leader()
        if leader is None or leader.id == self._service.me.id:
            return None
        call = self._peers.call(
            leader,
            "POST",
            "/v1/proposals",
            body=encode_proposal(proposal),
            timeout_seconds=timeout_seconds,
        )
        try:
            answer = await self._while_it_leads(leader, call)
        except MemberUnreachable as error:
            raise ProposalRejected(error.message) from error
        except ApiError as error:
            if error.status in (0, 504):
                raise OutcomeUnknown(f"{leader.name}: {error.message}") from error
            raise ProposalRejected(f"{leader.name}: {error.message}") from error
        try:
            return msgspec.json.decode(answer, type=Applied)
        except UNREADABLE as error:
            raise OutcomeUnknown(f"{leader.name} answers what cannot be read: {error}") from error

    async def _while_it_leads(self, leader: Member, call: Coroutine[Any, Any, bytes]) -> bytes:
        """The leader's answer; a host that lost its power never gives one, so not for longer.

        Raises:
            ApiError: As the call; status 504 when it leads no more.
        """
        answer = asyncio.create_task(call)
        try:
            while not answer.done():
                await asyncio.wait([answer], timeout=RETRY_SECONDS)
                now = self._service.leader()
                if not answer.done() and (now is None or now.id != leader.id):
                    raise ApiError(f"{leader.name} leads no more", status=504)
            return answer.result()
        finally:
            answer.cancel()
