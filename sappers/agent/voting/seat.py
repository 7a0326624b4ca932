"""This member's seat: whether it votes or only follows, and the log that it has accordingly.

Invariants:
- The state that the rest of the agent sees never goes back when the seat changes: a new voter is
  listened to once it is as far as the follower it was, and a new follower begins where the voter
  stood. Else guests that are wanted would look unwanted.
- The raft process of a new voter starts only after the entry that gave it a vote is committed; one
  that lost its vote starts none until it gets another one, and founds nothing.
- A voter's word that this member has no vote only makes it stop: what it voted with is deleted once
  the committed state says the same. While that does not, it votes again after a while.
- Nobody votes with less memory than it had (`vote_memory.py`); it follows then, and says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import structlog

from sappers.agent.hub.relay import Follower
from sappers.agent.voting.vote_memory import VoteMemory
from sappers.config import StateFolder
from sappers.errors import DAMAGED_HINT, IdentityError, LogDamaged, SappersError
from sappers.model.cluster_state import ClusterState
from sappers.model.observation import RaftStatus
from sappers.model.view import Genesis
from sappers.ports import FollowingLog, ReplicatedLog

LOOK_SECONDS = 0.05
RETRY_SECONDS = 2.0
# So long a voter that was told that it has no vote waits for the committed state to say so, too;
# and a member that has a new vote for a leader: perhaps there is none because this vote lacks.
DOUBT_SECONDS = 10.0

log = structlog.get_logger(__name__)

OpenVoterLog = Callable[[Genesis], ReplicatedLog]
OpenFollowingLog = Callable[[Follower], FollowingLog]
# What a member that the state gives a vote starts its raft process with.
JoinersRecord = Callable[[ClusterState], Genesis]


class TellVote(Protocol):
    """Tells the others whether this member has a vote.

    Damaged: it has none that it can use, and could not use one that it is given now.
    """

    async def __call__(self, *, votes: bool, damaged: bool = False) -> None:
        """Do so."""


class Seat:
    """Holds the log. `attend` changes seats when the committed electorate says so.

    Args:
        me_id: This member.
        folder: STATE_DIR.
        follower: Feeds the log while this member has no vote.
        wake: Called whenever the log has news.
        tell: Called when this member begins to vote, or ceases to.
    """

    def __init__(
        self,
        *,
        me_id: str,
        folder: StateFolder,
        follower: Follower,
        open_voter_log: OpenVoterLog,
        open_following_log: OpenFollowingLog,
        joiners_record: JoinersRecord,
        wake: Callable[[], None],
        tell: TellVote,
    ) -> None:
        self._me_id = me_id
        self._folder = folder
        self._memory = VoteMemory(me_id, folder)
        self._follower = follower
        self._open_voter_log = open_voter_log
        self._open_following_log = open_following_log
        self._joiners_record = joiners_record
        self._wake = wake
        self._tell = tell
        self._log: ReplicatedLog | None = None
        self._watch: asyncio.Task[None] | None = None
        self._votes = False
        self._change: asyncio.Task[None] | None = None
        self._joining: ReplicatedLog | None = None
        self._accepting = asyncio.Lock()
        self._accepted: Genesis | None = None  # the founder's, until it is voted with
        self._trouble = ""
        self._lacks_since: float | None = None
        self._led_at = 0.0  # when a leader was known last
        self._told_at: float | None = None  # when a loss was told that is not confirmed yet

    @property
    def trouble(self) -> str:
        """Why this member does not use the vote that it has, or empty."""
        return self._trouble

    @property
    def log(self) -> ReplicatedLog | None:
        """The log as it is now; None before `start`."""
        return self._log

    async def start(self) -> None:
        """Take the seat that this member had; only follow where what it voted with is damaged.

        Raises:
            SappersError: It cannot be taken now, for want of descriptors, room on the disk, …
        """
        self._led_at = asyncio.get_running_loop().time()
        try:
            if (genesis := self._memory.load()) is not None:
                await self._vote(genesis)
                return
        except LogDamaged as error:
            self._say_why_not(error.message)
        except OSError as error:
            raise SappersError(f"{self._me_id} cannot take its seat: {error}") from error
        following = self._open_following_log(self._follower)
        self._follower.follow(following)
        await following.start()
        self._use(following, votes=False)
        await self._tell(votes=False, damaged=bool(self._trouble) or not self._memory.is_ready)

    async def stop(self) -> None:
        """End the log, with nothing acknowledged left unsynced."""
        for task in (self._change, self._watch):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        for one in (self._joining, self._log):
            if one is not None:
                await one.stop()

    async def accept_genesis(self, genesis: Genesis) -> None:
        """Become a first voter as the founder says.

        Raises:
            IdentityError, LogDamaged: As `VoteMemory.accept`; or it is of another cluster.
            SappersError, OSError: It does not vote yet, and will when it is told again.
        """
        mine = self._log.state().cluster_id if self._log is not None else ""
        if mine not in ("", genesis.cluster_id):
            raise IdentityError(f"{self._me_id} is of cluster {mine}, not {genesis.cluster_id}")
        async with self._accepting:
            if self._memory.accept(genesis):
                self._accepted = genesis
            if self._accepted is None or self._joining is not None:
                return
            before = self._log
            await self._vote(self._accepted)
            self._trouble = ""  # nothing was here, and the founder knows that nothing ever was
            if before is not None:
                await before.stop()

    def attend(self) -> None:
        """Change seats, beside the loop, if the committed electorate says so."""
        if self._log is None or self._accepting.locked():
            return
        if self._change is not None and not self._change.done():
            return
        status, state = self._log.status(), self._log.state()
        if self._votes:
            if status.is_removed:
                self._change = asyncio.create_task(self._lose_vote(), name="losing the vote")
            elif status.is_damaged:
                self._change = asyncio.create_task(self._give_up(), name="ceasing to vote")
            return
        up_to_date = status.is_up_to_date(state.term)
        lost = up_to_date and state.electorate and self._me_id not in state.electorate
        if self._trouble:
            if lost:
                self._change = asyncio.create_task(self._begin_again(state), name="beginning again")
        elif lost and self._told_at is not None:
            self._change = asyncio.create_task(self._confirm_loss(state), name="losing the vote")
        elif lost and not self._memory.is_ready_in(state.cluster_id) and not self._memory.is_used:
            self._change = asyncio.create_task(self._note_no_vote(state), name="noting no vote")
        elif self._gains(status, state) or self._is_doubtful():
            self._change = asyncio.create_task(self._gain_vote(state), name="gaining a vote")
        elif self._lacks(state):
            self._change = asyncio.create_task(self._refuse_vote(), name="refusing a vote")

    def _gains(self, status: RaftStatus, state: ClusterState) -> bool:
        """Whether the committed state gives this member a vote that it does not use yet.

        Whoever was told that it lost its vote may not have seen yet in its own state that it did.
        """
        now = asyncio.get_running_loop().time()
        if status.leader_id is not None:
            self._led_at = now
        may_be_lacking = now - self._led_at >= DOUBT_SECONDS
        return (
            self._me_id in state.electorate
            and self._memory.may_use(state)
            and (
                status.is_up_to_date(state.term)
                or (may_be_lacking and status.applied_index >= status.commit_index)
            )
        )

    def _lacks(self, state: ClusterState) -> bool:
        """Whether the cluster counts on a vote of which there is nothing here, for a while now.

        A first voter may be told by the founder a moment after it saw what the others founded.
        """
        now = asyncio.get_running_loop().time()
        if not self._memory.lacks(state):
            self._lacks_since = None
        elif self._lacks_since is None:
            self._lacks_since = now
        return self._lacks_since is not None and now - self._lacks_since >= DOUBT_SECONDS

    def _is_doubtful(self) -> bool:
        """Whether a loss was told that the committed state does not know of, even after a while.

        Without a leader nobody can confirm it: it may be that all voters were told so falsely.
        """
        if self._told_at is None:
            return False
        return asyncio.get_running_loop().time() - self._told_at >= DOUBT_SECONDS

    async def _confirm_loss(self, state: ClusterState) -> None:
        try:
            self._memory.forget(state)
        except OSError as error:
            log.error("cannot forget what it voted with", reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)
        else:
            self._told_at = None
            log.info("the loss of the vote is committed", index=state.electorate_index)
            await self._tell(votes=False)

    async def _note_no_vote(self, state: ClusterState) -> None:
        """From now on this member may be given a vote: it will know it for a new one."""
        try:
            self._memory.note_no_vote(state)
        except OSError as error:
            log.error("cannot note that it has no vote", reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)
        else:
            await self._tell(votes=False)

    async def _refuse_vote(self) -> None:
        self._say_why_not(
            f"the cluster counts on its vote, and nothing of what it voted with is in"
            f" {self._folder.root}: the disk was replaced or emptied"
        )
        await self._tell(votes=False, damaged=True)

    def _say_why_not(self, trouble: str) -> None:
        self._trouble = trouble
        log.error("does not vote", reason=trouble, hint=DAMAGED_HINT)

    async def _begin_again(self, state: ClusterState) -> None:
        """Once the others count without this member: until then, what is damaged has voted."""
        try:
            self._memory.put_away(state)
        except OSError as error:
            log.error("cannot put damaged files away", reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)
            return
        self._trouble, self._told_at = "", None
        log.info("damaged files put away", folder=str(self._folder.damaged_raft))
        await self._tell(votes=False)

    async def _vote(self, genesis: Genesis) -> None:
        self._memory.begin()
        voter = self._open_voter_log(genesis)
        try:
            await voter.start()
            self._memory.note_begun()
        except BaseException:
            await voter.stop()  # the next one needs its folder
            raise
        self._use(voter, votes=True)
        self._follower.follow(None)
        await self._tell(votes=True)
        log.info("voting", cluster_id=genesis.cluster_id, voters=list(genesis.voters))

    async def _gain_vote(self, state: ClusterState) -> None:
        try:
            await self._join(state)
        except LogDamaged as error:
            await self._end_joining()
            self._say_why_not(error.message)
            await self._tell(votes=False, damaged=True)
        except (SappersError, OSError) as error:
            log.error("cannot vote yet", reason=str(error))
            await self._end_joining()
            await asyncio.sleep(RETRY_SECONDS)

    async def _join(self, state: ClusterState) -> None:
        record = self._memory.join_with(self._joiners_record(state))
        self._memory.begin()
        voter = self._joining = self._open_voter_log(record)
        await voter.start()
        self._memory.note_begun()
        before = self._log
        assert before is not None, "attend looks at it"
        while voter.state().progress < before.state().progress:
            if voter.status().is_removed:
                await self._end_joining()
                self._note_loss(before.state(), voter.status())
                return
            if voter.status().is_damaged:
                raise LogDamaged(voter.status().down)
            await asyncio.sleep(LOOK_SECONDS)
        self._joining = self._told_at = None
        self._use(voter, votes=True)
        self._follower.follow(None)
        await self._tell(votes=True)  # the leader counts on it from now on
        await before.stop()
        log.info("voting", cluster_id=record.cluster_id, voters=list(record.voters))

    async def _end_joining(self) -> None:
        joining, self._joining = self._joining, None
        if joining is not None:
            await joining.stop()

    async def _lose_vote(self) -> None:
        assert self._log is not None, "attend looks at it"
        self._note_loss(self._log.state(), self._log.status())
        await self._follow_from_here()
        await self._tell(votes=False, damaged=True)  # until the committed state says the same
        log.info("voting no more; following", index=self._log.state().index)

    async def _give_up(self) -> None:
        """The raft process was started again, and cannot trust what it voted with."""
        assert self._log is not None, "attend looks at it"
        self._say_why_not(self._log.status().down)
        await self._follow_from_here()
        await self._tell(votes=False, damaged=True)

    async def _follow_from_here(self) -> None:
        before = self._log
        assert before is not None, "attend looks at it"
        following = self._open_following_log(self._follower)
        await following.start()
        await following.begin_at(before.state())
        self._follower.follow(following)
        self._use(following, votes=False)
        await before.stop()

    def _note_loss(self, state: ClusterState, status: RaftStatus) -> None:
        self._memory.note_loss(state, status.term)
        self._told_at = asyncio.get_running_loop().time()

    def _use(self, replicated: ReplicatedLog, *, votes: bool) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._log, self._votes = replicated, votes
        if votes:
            self._accepted = None
        self._watch = asyncio.create_task(self._wake_on(replicated.changes()))
        self._wake()

    async def _wake_on(self, changes: AsyncIterator[None]) -> None:
        async for _ in changes:
            self._wake()
