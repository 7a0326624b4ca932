"""The keeper: a change is announced in the leader's term, done once, and not at once again."""

from __future__ import annotations

import math

import msgspec
import pytest

from sappers.agent.leading.electorate import PAUSE_SECONDS, UNFIT_SECONDS, ElectorateKeeper
from sappers.errors import CommandRefused, OutcomeUnknown
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import AnnounceElectorate, Command
from sappers.model.member import MemberState
from sappers.model.observation import RaftRole, RaftStatus
from sappers.model.policy import ElectorateSettings
from tests.unit.decisions.test_electorate_changes import world


class Log:
    """A leader's log; what is asked of it is written down and done."""

    def __init__(self, state: ClusterState) -> None:
        self.current = state
        self.role = RaftRole.LEADER
        self.unheard: dict[str, int] = {}
        self.done: list[str] = []
        self.failure: Exception | None = None

    def state(self) -> ClusterState:
        return self.current

    def status(self) -> RaftStatus:
        voters = self.current.electorate
        return RaftStatus(self.role, 7, "m1", 1, 1, voters, unheard=self.unheard)

    async def add_voter(self, member_id: str, address: str, timeout_seconds: float) -> None:
        self._do(f"add {member_id} at {address}")
        self._elect({*self.current.electorate, member_id})

    async def remove_voter(self, member_id: str, timeout_seconds: float) -> None:
        self._do(f"remove {member_id}")
        self._elect({*self.current.electorate} - {member_id})

    async def transfer_leadership(self, member_id: str, timeout_seconds: float) -> None:
        self._do(f"transfer to {member_id}")

    def _do(self, what: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.done.append(what)

    def _elect(self, voters: set[str]) -> None:
        self.current = msgspec.structs.replace(self.current, electorate=tuple(sorted(voters)))


class Turn:
    """The agent's loop, the clock, and what was announced."""

    def __init__(self) -> None:
        it = world(4)
        it.turn(3, MemberState.LEFT)
        self.time = it.now
        self.log = Log(it.state)
        self.announced: list[tuple[Command, int]] = []
        self.refusal: Exception | None = None
        self.keeper = ElectorateKeeper(ElectorateSettings(), self, self.propose)

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def propose(self, commands: tuple[Command, ...], term: int) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.announced.extend((command, term) for command in commands)

    async def round(self) -> None:
        self.keeper.attend(self.log, math.inf)
        if self.keeper._change is not None:
            await self.keeper._change


@pytest.fixture
def turn() -> Turn:
    return Turn()


async def test_a_change_is_announced_with_its_reason_and_then_done(turn: Turn) -> None:
    await turn.round()
    assert turn.announced == [(AnnounceElectorate("m3", "leaves", "host3 has left"), 7)]
    assert turn.log.done == ["remove m3"]
    await turn.round()
    assert len(turn.log.done) == 1, "what the first led to must be seen first"
    turn.time += PAUSE_SECONDS
    await turn.round()
    assert turn.log.done == ["remove m3", "add m4 at 10.0.0.4:12000"]


async def test_who_leads_no_more_changes_nothing(turn: Turn) -> None:
    turn.refusal = CommandRefused("decided in term 7, committed in term 8")
    await turn.round()
    assert turn.log.done == []
    turn.time += PAUSE_SECONDS
    turn.refusal, turn.log.role = None, RaftRole.FOLLOWER
    await turn.round()
    assert turn.announced == []


async def test_what_failed_is_tried_again(turn: Turn) -> None:
    turn.log.failure = OutcomeUnknown("no answer")
    await turn.round()
    turn.time += PAUSE_SECONDS
    turn.log.failure = None
    await turn.round()
    assert turn.log.done == ["remove m3"]


async def test_a_member_that_did_not_use_its_vote_is_not_chosen_again_soon(turn: Turn) -> None:
    for _ in range(2):
        await turn.round()
        turn.time += PAUSE_SECONDS
    turn.log.unheard = {"m4": 60}
    await turn.round()
    assert turn.log.done[-1] == "add m4 at 10.0.0.4:12000", "nobody else is there"
    five = world(5).state.members["m5"]
    members = turn.log.current.members.set("m5", five)
    turn.log.current = msgspec.structs.replace(turn.log.current, members=members)
    for _ in range(2):
        turn.time += PAUSE_SECONDS
        await turn.round()
        turn.log.unheard = {}
    assert turn.log.done[-2:] == ["remove m4", "add m5 at 10.0.0.5:12000"]
    assert turn.keeper._unfit_until["m4"] > turn.time
    assert turn.keeper._unfit_until["m4"] <= turn.time + UNFIT_SECONDS


async def test_one_of_too_many_may_be_chosen_again_at_once(turn: Turn) -> None:
    turn.log.current = world(4, voters=4).state
    await turn.round()
    assert turn.log.done == ["remove m4"]
    gone = world(4)
    gone.turn(3, MemberState.LEFT)
    gone.say("m4", has_vote=False)
    turn.log.current = gone.state
    for _ in range(2):
        turn.time += PAUSE_SECONDS
        await turn.round()
    assert turn.log.done[1:] == ["remove m3", "add m4 at 10.0.0.4:12000"]


async def test_a_leader_that_is_stopped_hands_over(turn: Turn) -> None:
    await turn.keeper.close(turn.log)
    assert turn.log.done == ["transfer to m2"]
