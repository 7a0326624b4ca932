"""The replicated log of a voter: it asks the raft process, and keeps a replica of the state."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from sappers.config import RaftSettings
from sappers.consensus.news import News
from sappers.consensus.raft_process import RaftProcess, StartProcess, start_raft_process
from sappers.consensus.replica import Replica
from sappers.consensus.snapshot import SNAPSHOT_FILE, read_snapshot
from sappers.consensus.wire import (
    AgentLives,
    ChangeElectorate,
    Committed,
    Credentials,
    Done,
    LoadState,
    ProcessMessage,
    Propose,
    Recover,
    Rejected,
    RenewCertificate,
    SetAddresses,
    SetLogLevel,
    SnapshotTaken,
    Standing,
    Start,
    StateAge,
    TakeSnapshot,
    TransferLeadership,
    Unknown,
)
from sappers.decisions.fencing import certain_after_seconds
from sappers.errors import LogDamaged, OutcomeUnknown, ProposalRejected, UpgradeNeeded
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import encode_state
from sappers.model.commands import (
    AddVoter,
    ElectorateCommand,
    Entry,
    NoOperation,
    Proposal,
    RemoveVoter,
    encode_proposal,
    format_adopted,
    format_needed,
)
from sappers.model.event import Event
from sappers.model.log_format import check_known
from sappers.model.observation import RaftRole, RaftStatus
from sappers.model.view import Genesis
from sappers.ports import Applied, Clock, QuorumHeard
from sappers.security.tls import Identity

_SNAPSHOT_SECONDS = 60.0
_RESOLVE_SECONDS = 1.0
_LEADERLESS_SECONDS = 5.0  # then members that say they vote are listened to

_log = structlog.get_logger()


class RaftLog:
    """A voter's `ports.ReplicatedLog`.

    Args:
        folder: Journal, term and vote, snapshot; belongs to the raft process.
        identity: This member's certificate, checked.
        listen: IP address and port that other voters connect to.
        resolve: Where a voter's Raft is now, `ip:port`, or None where nobody knows better than
            the genesis. Asked once a second.
        log_level: What the raft process is to log, too. Asked once a second.
        renewals: How often this member's certificate was replaced. Asked once a second.
        start_process: Starts a raft process.
        others: Who says by gossip that it has a vote, `ip:port` by id. Asked while no leader is
            heard: a voter that was away for long may know none of today's.
        agent_lives: Whether the agent's loop goes round. Asked once a second; a leader whose
            agent does not say so for a while lets another lead.
        lease_seconds: Of exclusive guests.
    """

    def __init__(
        self,
        me_id: str,
        genesis: Genesis,
        folder: Path,
        identity: Identity,
        settings: RaftSettings,
        listen: tuple[str, int],
        resolve: Callable[[str], str | None],
        clock: Clock,
        log_level: Callable[[], str] = lambda: "INFO",
        start_process: StartProcess = start_raft_process,
        others: Callable[[], Mapping[str, str]] = dict,
        renewals: Callable[[], int] = lambda: 0,
        agent_lives: Callable[[], bool] = lambda: True,
        lease_seconds: float = 0.0,
    ) -> None:
        self._me_id = me_id
        self._genesis = genesis
        self._folder = folder
        self._identity = identity
        self._settings = settings
        self._listen = listen
        self._resolve = resolve
        self._clock = clock
        self._log_level = log_level
        self._others = others
        self._renewals = renewals
        self._agent_lives = agent_lives
        self._lease_seconds = lease_seconds
        self._leader_known_at = clock.monotonic()
        self._state_as_of: float | None = None
        self._told: tuple[dict[str, str], dict[str, str]] = ({}, {})  # what SetAddresses says
        self._replica = Replica()
        self._status = RaftStatus(RaftRole.NONE, 0, None, 0, 0, genesis.voters)
        self._news = News()
        self._requests = itertools.count(1)
        self._outstanding: dict[int, asyncio.Future[Any]] = {}
        self._raft = RaftProcess(start_process, self._first_words, self._hear, self._lost)
        self._telling: asyncio.Task[None] | None = None

    @property
    def process_id(self) -> int | None:
        """The raft process, None while there is none."""
        return self._raft.process.pid if self._raft.process else None

    # ports.ReplicatedLog

    async def start(self) -> None:
        """Start the raft process; returns once its state on disk is loaded.

        Raises:
            LogDamaged: A file cannot be trusted; says which and what to do.
            SappersError: The process cannot start: port taken, certificate wrong, …
        """
        await self._raft.start()
        self._telling = asyncio.get_running_loop().create_task(self._keep_told())

    async def stop(self) -> None:
        """Stop the raft process; its files are synced when this returns."""
        if self._telling is not None:
            self._telling.cancel()
        await self._raft.stop()

    def state(self) -> ClusterState:
        """This voter's replica."""
        return self._replica.state

    def status(self) -> RaftStatus:
        """As the raft process told last; nobody's role while it is down."""
        index = self._replica.state.index
        return msgspec.structs.replace(
            self._status,
            applied_index=index,
            commit_index=max(index, self._status.commit_index),
            halted=self._replica.halted,
        )

    async def propose(self, proposal: Proposal, timeout_seconds: float) -> Applied:
        """See the port."""
        if any(isinstance(command, ElectorateCommand) for command in proposal.commands):
            raise ProposalRejected("add_voter and remove_voter alone change the electorate")
        # The raft process never looks into it: what is appended all could apply, if they know it.
        if (needed := format_needed(proposal.commands)) > self.state().format:
            raise ProposalRejected(f"the log has format {self.state().format}, not {needed}")
        try:
            check_known(format_adopted(proposal.commands))
        except UpgradeNeeded as error:
            raise ProposalRejected(error.message) from error
        payload = encode_proposal(proposal)
        answer = await self._ask(lambda request: Propose(request, payload), timeout_seconds)
        assert isinstance(answer, Done)
        return Applied(answer.index, answer.term, answer.refused)

    async def add_voter(
        self, member_id: str, address: str, timeout_seconds: float, by: str = ""
    ) -> Applied:
        """See the port."""
        return await self._change_electorate(AddVoter(member_id, address), timeout_seconds, by)

    async def remove_voter(self, member_id: str, timeout_seconds: float, by: str = "") -> Applied:
        """See the port."""
        return await self._change_electorate(RemoveVoter(member_id), timeout_seconds, by)

    async def _change_electorate(
        self, command: ElectorateCommand, timeout_seconds: float, by: str
    ) -> Applied:
        payload = encode_proposal(self._proposal(command, by=by))
        answer = await self._ask(lambda number: ChangeElectorate(number, payload), timeout_seconds)
        assert isinstance(answer, Done)
        return Applied(answer.index, answer.term, answer.refused)

    async def transfer_leadership(self, member_id: str, timeout_seconds: float) -> None:
        """See the port."""
        await self._ask(
            lambda number: TransferLeadership(number, member_id, timeout_seconds), timeout_seconds
        )

    async def recover_alone(self, timeout_seconds: float, by: str = "") -> Applied:
        """See the port."""
        payload = encode_proposal(self._proposal(by=by))
        listen_seconds = self._leases_end_after()
        answer = await self._ask(
            lambda number: Recover(number, payload, listen_seconds),
            listen_seconds + timeout_seconds,
        )
        assert isinstance(answer, Done)
        return Applied(answer.index, answer.term, answer.refused)

    def _leases_end_after(self) -> float:
        """Seconds after which exclusive guests have ended, those that the state lacks, too."""
        known = (one.lease_seconds for one in self.state().allocations.values())
        longest = max(self._lease_seconds, *known, 0.0)
        return certain_after_seconds(longest) if longest else 0.0

    def _proposal(self, *commands: NoOperation | ElectorateCommand, by: str = "") -> Proposal:
        return Proposal(
            uuid.uuid4().hex,
            self._me_id,
            self._clock.now(),
            commands,
            by=by or f"member/{self._me_id}",
        )

    async def read_barrier(self, timeout_seconds: float) -> QuorumHeard:
        """See the port: a no-operation goes through the log."""
        applied = await self.propose(self._proposal(NoOperation()), timeout_seconds)
        return QuorumHeard(applied.index, applied.term)

    def state_age(self) -> float | None:
        """See the port."""
        as_of = self._state_as_of
        return None if as_of is None else max(0.0, self._clock.monotonic() - as_of)

    def entries_after(self, index: int, limit: int) -> Sequence[Entry] | None:
        """See the port."""
        return self._replica.entries_after(index, limit)

    def events_after(self, number: int) -> tuple[Event, ...]:
        """See the port."""
        return self._replica.events_after(number)

    async def snapshot(self) -> bytes:
        """See the port."""
        return encode_state(self._replica.state)

    async def written_snapshot(self) -> bytes:
        """See the port."""
        try:
            found = await asyncio.to_thread(read_snapshot, self._folder / SNAPSHOT_FILE)
        except (LogDamaged, OSError) as error:  # the raft process says what to do about it
            _log.warning("the snapshot on disk is of no use to others", reason=str(error))
            found = None
        # Who starts from it asks for its last entry and what follows, to see that they fit.
        if found is None or self._replica.entries_after(found.index - 1, 1) is None:
            return await self.snapshot()
        return found.state

    async def trigger_snapshot(self) -> int:
        """Compact the log to disk now; the index it covers.

        Raises:
            ProposalRejected: The raft process is down, or cannot write it.
            OutcomeUnknown: It was not done within a minute: see the raft process's log.
        """
        answer = await self._ask(TakeSnapshot, _SNAPSHOT_SECONDS)
        assert isinstance(answer, SnapshotTaken)
        return answer.index

    def changes(self) -> AsyncIterator[None]:
        """See the port."""
        return self._news.listen()

    # Requests

    async def _ask(self, message: Callable[[int], msgspec.Struct], timeout_seconds: float) -> Any:
        request, loop = next(self._requests), asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._outstanding[request] = answer
        late = OutcomeUnknown(f"no answer within {timeout_seconds:g} s")
        time_up = loop.call_later(timeout_seconds, self._settle, request, late)
        try:
            if not self._raft.send(message(request), at_once=len(self._outstanding) == 1):
                raise ProposalRejected("the raft process does not run, or hangs")
            return await answer
        finally:
            time_up.cancel()
            del self._outstanding[request]

    def _settle(self, request: int, outcome: Any) -> None:
        answer = self._outstanding.get(request)
        if answer is None or answer.done():
            return
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    # What the process says

    def _hear(self, message: ProcessMessage) -> None:
        if isinstance(message, StateAge):  # no news: it comes twice a second
            self._state_as_of = message.as_of
            return
        match message:
            case LoadState(snapshot=snapshot):
                if snapshot is not None:
                    self._replica.load(snapshot)
            case Committed(entries=entries):
                if not self._replica.advance(entries):
                    _log.error("an entry is missing", after=self._replica.state.index)
                    self._raft.kill()
            case Done() | SnapshotTaken() | Rejected() | Unknown():
                self._settle(message.request, _outcome(message))
            case Standing(status=status):
                self._status = status
                if status.leader_id is not None:
                    self._leader_known_at = self._clock.monotonic()
        self._news.tell()

    def _lost(self) -> None:
        """The process is gone, and with it what it was asked."""
        removed, failure = self._raft.is_retired, self._raft.failure
        self._status = RaftStatus(
            RaftRole.NONE,
            *(0, None, 0, 0),
            self._replica.state.electorate or self._genesis.voters,
            is_removed=removed,
            down="" if removed else failure.message,
            is_damaged=failure.damaged,
        )
        for request in list(self._outstanding):
            self._settle(request, OutcomeUnknown("the raft process ended"))
        self._news.tell()

    # What the process is told

    def _first_words(self) -> Start:
        self._told = (self._addresses(), {})
        return Start(
            self._me_id,
            self._genesis,
            str(self._folder),
            Credentials.of(self._identity),
            self._settings,
            self._listen,
            self._told[0],
            self._log_level(),
        )

    def _addresses(self) -> dict[str, str]:
        state = self._replica.state
        known = self._genesis.addresses | dict(state.voter_addresses)
        voters = {*self._genesis.voters, *state.electorate}
        return {voter: self._resolve(voter) or known.get(voter, "") for voter in voters}

    def _others_now(self) -> dict[str, str]:
        """Who else may be asked for a leader; nobody while there is one."""
        now = self._clock.monotonic()
        if self._status.leader_id is not None:
            self._leader_known_at = now
        if now - self._leader_known_at < _LEADERLESS_SECONDS:
            return {}
        return dict(self._others())

    async def _keep_told(self) -> None:
        """Tell the process what has changed of what it was started with."""
        level, renewals = self._log_level(), self._renewals()
        while True:
            await asyncio.sleep(_RESOLVE_SECONDS)
            if self._agent_lives():
                self._raft.send(AgentLives())
            addresses = (self._addresses(), self._others_now())
            if addresses != self._told and self._raft.send(SetAddresses(*addresses)):
                self._told = addresses
            if (count := self._renewals()) != renewals:
                self._raft.send(RenewCertificate())
                renewals = count
            if (new := self._log_level()) != level:
                self._raft.send(SetLogLevel(new))
                level = new


def _outcome(answer: Done | SnapshotTaken | Rejected | Unknown) -> Any:
    match answer:
        case Rejected(reason=reason):
            return ProposalRejected(reason)
        case Unknown(reason=reason):
            return OutcomeUnknown(reason)
    return answer
