"""Founding: the founder waits for its first members, decides the voters, and tells them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from sappers.agent.voting.genesis import load_invited, save_invited
from sappers.config import AgentSettings
from sappers.decisions.electorate import choose_first_voters
from sappers.errors import ApiError, IdentityError, LogDamaged, SappersError
from sappers.model.member import Member
from sappers.model.view import Genesis
from sappers.ports import Membership, PeerClient, ReplicatedLog

LOOK_SECONDS = 0.2
# A founder of few waits a little for the peers it was told of: one of them may have a cluster.
SETTLE_SECONDS = 3.0
INVITE_SECONDS = 5.0
RETRY_SECONDS = 2.0

log = structlog.get_logger(__name__)

_Kept = TypeVar("_Kept")


class Voter(Protocol):
    """What founding needs of the agent's service."""

    @property
    def me(self) -> Member:
        """This member."""

    @property
    def log(self) -> ReplicatedLog:
        """The log as it is now."""

    async def accept_genesis(self, genesis: Genesis) -> None:
        """Become a voter."""


class Invited:
    """The first voters that have taken the genesis, on the founder's disk.

    Whoever took it has voted with it: with an empty disk it must not begin anew, in the same terms.

    Raises:
        LogDamaged: The file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ids = self._noted = load_invited(path)

    def __contains__(self, member_id: str) -> bool:
        return member_id in self._ids

    def note(self, member_ids: Iterable[str]) -> None:
        """Remember these, too."""
        self._ids |= frozenset(member_ids)
        if self._ids == self._noted:
            return
        try:
            save_invited(self._path, self._ids)
        except OSError as error:
            log.warning("cannot note who votes", file=str(self._path), reason=str(error))
        else:
            self._noted = self._ids


class Founding:
    """Runs on every agent; does something on the founder alone, until all voters vote."""

    def __init__(
        self,
        voter: Voter,
        settings: AgentSettings,
        membership: Membership,
        peers: PeerClient,
        invited: Path,
    ) -> None:
        self._invited_path = invited
        self._voter = voter
        self._settings = settings
        self._membership = membership
        self._peers = peers

    async def run(self, load: Callable[[], Genesis | None]) -> None:
        """Found the cluster where none is, then invite until every voter votes.

        Args:
            load: The genesis on disk, with the errors of `load_genesis`.
        """
        try:
            genesis = await _once_readable(load)
            if genesis is None and self._settings.bootstrap:
                genesis = await self._found()
            if genesis is not None and genesis.founder == self._voter.me.id:
                invited = await _once_readable(lambda: Invited(self._invited_path))
                await self._invite(genesis, invited)
        except LogDamaged as error:
            log.error("invites nobody", reason=error.message, hint=error.hint)

    async def _found(self) -> Genesis | None:
        loop = asyncio.get_running_loop()
        settled_at = loop.time() + SETTLE_SECONDS
        while True:
            members = self._membership.members()
            everyone_met = len(members) > len(self._settings.peers)
            if everyone_met or loop.time() > settled_at:
                voters = choose_first_voters(members, self._voter.me.id, self._settings.bootstrap)
                if voters is not None:
                    break
                if any(member.has_vote for member in members):
                    log.info("a cluster exists; joining it")
                    return None
            await asyncio.sleep(LOOK_SECONDS)
        genesis = Genesis(
            cluster_id=uuid.uuid4().hex,
            founder=self._voter.me.id,
            voters=tuple(voter.id for voter in voters),
            addresses={voter.id: f"{voter.address}:{voter.ports.raft}" for voter in voters},
            image_keys=self._settings.image_keys,
        )
        log.info("founding the cluster", voters=[voter.name for voter in voters])
        while True:
            try:
                await self._voter.accept_genesis(genesis)
            except (LogDamaged, IdentityError):
                raise
            except (SappersError, OSError) as error:  # this very one may be on the disk by now
                log.error("cannot found the cluster yet", reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return genesis

    async def _invite(self, genesis: Genesis, invited: Invited) -> None:
        while waiting := self._not_voting(genesis, invited):
            await asyncio.gather(*(self._send(member, genesis, invited) for member in waiting))
            await asyncio.sleep(LOOK_SECONDS)

    def _not_voting(self, genesis: Genesis, invited: Invited) -> list[Member]:
        """First voters that were never told; one that was, and does not vote, has lost its disk."""
        members = [one for one in self._membership.members() if one.id in genesis.voters]
        invited.note(member.id for member in members if member.has_vote)
        wanted = self._voter.log.state().electorate or genesis.voters  # none: not founded yet
        return [
            member
            for member in members
            if member.id in wanted and not member.has_vote and member.id not in invited
        ]

    async def _send(self, member: Member, genesis: Genesis, invited: Invited) -> None:
        try:
            await self._peers.call(
                member, "PUT", "/v1/genesis", body=genesis, timeout_seconds=INVITE_SECONDS
            )
        except ApiError as error:
            log.info("voter not reached yet", voter=member.name, error=error.message)
        else:
            invited.note([member.id])


async def _once_readable(load: Callable[[], _Kept]) -> _Kept:
    """What is on disk, once this machine has the descriptors and the memory to read it.

    Raises:
        LogDamaged: It cannot be read.
    """
    while True:
        try:
            return load()
        except OSError as error:
            log.warning("cannot read what was founded yet", reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)
