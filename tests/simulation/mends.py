"""Single mends switched off, to see that the simulation finds what they mend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from sappers.agent.leading.power import PowerFence
from sappers.agent.proposing import Proposer
from sappers.agent.voting import leases
from sappers.agent.voting.vote_memory import VoteMemory
from sappers.api.raft_wire import RaftReport
from sappers.consensus import state_machine
from sappers.consensus.follower_log import FollowerLog
from sappers.consensus.journal import Journal
from sappers.consensus.layer import RaftNode
from sappers.decisions import reconcile_member
from sappers.decisions.ages import ClockReading
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import NoOperation, Proposal
from sappers.ports import Applied
from tests.simulation import operators
from tests.simulation.disk import SimulatedDisk

_answer = RaftNode._SyncObj__sendNextNodeIdx
_propose = Proposer.propose


def _answer_before_the_sync(self: Any, node: Any, *args: Any, **kwargs: Any) -> None:
    _answer(self, node, *args, **kwargs)
    if node in self._acks:
        self._links.send(node, self._acks.pop(node))


def _when_it_is_read(self: Any, theirs: float) -> float:
    return asyncio.get_running_loop().time()


async def _read_what_is_here(self: Any, proposal: Proposal, timeout_seconds: float) -> Applied:
    if proposal.commands == (NoOperation(),):
        state = self._service.log.state()
        return Applied(state.index, state.term, "")
    return await _propose(self, proposal, timeout_seconds)


def _leases_for_ever(state: ClusterState, member_id: str, _: float) -> dict[str, float]:
    return {
        one.id: float("inf")
        for one in state.allocations_on(member_id)
        if one.is_exclusive and not one.status.is_terminal
    }


def _use_any_vote(self: VoteMemory, state: ClusterState) -> bool:
    return self._me_id in state.electorate


def _oldest_voter(reports: Sequence[RaftReport], _: str | None) -> RaftReport:
    voters = [one for one in reports if one.votes_here]
    return min(voters, key=lambda one: (one.status.last_term, one.status.last_index))


async def _sure_to_lead(*_: object) -> bool:
    return True


async def _fetch_nothing(_: FollowerLog) -> None:
    pass


@dataclass(frozen=True)
class Mend:
    """One mend, and what shows without it.

    Attributes:
        kinds: Faults that it stands against; none for any.
        finding: What the first seed that fails says, in part.
    """

    name: str
    switched_off: Callable[[], AbstractContextManager[Any]]
    finding: str
    kinds: tuple[str, ...] = ()


MENDS = (
    Mend(
        "an entry is synced before it is acknowledged",
        lambda: patch.object(RaftNode, "_SyncObj__sendNextNodeIdx", _answer_before_the_sync),
        "applies another entry",
        ("forgetful",),
    ),
    Mend(
        "what is read after a failed sync is written again",
        lambda: patch.object(SimulatedDisk, "dirty_again", lambda _, stored: stored.dirty_from),
        "not whole",  # what was acknowledged is damaged after a power loss, and the voter says so
        ("bad_disk", "power_of_all"),
    ),
    Mend(
        "only what differs is cut",
        lambda: patch.object(RaftNode, "_keep_what_matches", lambda self, message: None),
        "applies another entry",
    ),
    Mend(
        "a request is applied once",
        lambda: patch.object(state_machine, "_remembering", lambda state, _: state),
        "is applied again",
    ),
    Mend(
        "a heartbeat is as old as when it was said",
        lambda: patch.object(ClockReading, "said_at", _when_it_is_read),
        "was committed before",
        ("weather", "isolate"),
    ),
    Mend(
        "a linearizable read goes through the log",
        lambda: patch.object(Proposer, "propose", _read_what_is_here),
        "is not linearizable",
    ),
    Mend(
        "a lease ends",
        lambda: patch.object(leases, "renewed_leases", _leases_for_ever),
        "exclusive guests run at once",
        ("clock", "transfer"),
    ),
    Mend(
        "a guest is restarted a few times at most",
        lambda: patch.object(reconcile_member, "_restarts", lambda *_: (0, float("-inf"))),
        "a restart storm",
        ("guest",),
    ),
    Mend(
        "what the hub lost is fetched",
        lambda: patch.object(FollowerLog, "_fetch_missing", _fetch_nothing),
        "the members are at different indexes",
    ),
    Mend(
        "a vote is used with all that it was used with before, or when it is new",
        lambda: patch.object(VoteMemory, "may_use", _use_any_vote),
        "votes by a vote that it has forgotten",
        ("lose_files",),
    ),
    Mend(
        "a journal that ends before what was committed is refused",
        lambda: patch.object(Journal, "_load_bound", lambda _: None),
        "votes by a vote that it has forgotten",
        ("lose_files",),
    ),
    Mend(
        "the voter with the newest log goes on alone",
        lambda: patch.object(operators, "newest_voter", _oldest_voter),
        "is given up, and",
        ("weather", "quorum"),
    ),
    Mend(
        "what was given up is looked for, and let go",
        lambda: patch.object(FollowerLog, "_may_have_what_was_given_up", lambda _: False),
        "not whole",
        ("quorum",),
    ),
    Mend(
        "no host is cut off from power by who has not proven that it leads",
        lambda: patch.object(PowerFence, "_still_leads", _sure_to_lead),
        "has not proven that it leads",
        ("transfer",),
    ),
    Mend(
        "a revoked member is out at once",
        lambda: patch.object(RaftNode, "_is_shut_out", lambda *_: False),
        ", revoked",
        ("revoke",),
    ),
)
