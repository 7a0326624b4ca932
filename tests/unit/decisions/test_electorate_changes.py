"""The electorate from one change to the next: by example, and under any history of members."""

from __future__ import annotations

import math
from collections import Counter

import immutables
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sappers.decisions.electorate import (
    SETTLED_AFTER_SECONDS,
    ElectorateChange,
    GrantVote,
    TransferLeadership,
    WithdrawVote,
    plan_electorate,
    tolerance,
)
from sappers.decisions.leader_time import LeaderTime
from sappers.model.cluster_state import ClusterState
from sappers.model.cordon import Cordon
from sappers.model.member import Member, MemberState, Resources
from sappers.model.observation import RaftRole, RaftStatus
from sappers.model.policy import ElectorateSettings
from tests.unit.worlds import member

SETTINGS = ElectorateSettings()
AFTER = SETTINGS.replace_after_seconds
NOW = 10_000.0


class World:
    """A cluster's members and voters; the leader's plan is carried out at once."""

    def __init__(self, members: list[Member], voters: list[int]) -> None:
        self.state = ClusterState(
            cluster_id="c1",
            electorate=tuple(sorted(f"m{n}" for n in voters)),
            members=immutables.Map({one.id: one for one in members}),
        )
        self.leader = self.state.electorate[0]
        for voter in self.state.electorate:
            self.say(voter, has_vote=True)
        self.now = NOW
        self.unheard: dict[str, int] = {}
        self.unfit: set[str] = set()
        self.newcomers_vote = True
        self.settings = SETTINGS
        self.steady_seconds = math.inf

    def turn(self, number: int, word: MemberState) -> None:
        before = self.state.members[f"m{number}"]
        if before.state is not word:
            after = msgspec.structs.replace(before, state=word, state_since=self.now)
            self._set(members=self.state.members.set(before.id, after))
            if self.lives(before.id) and before.id not in self.state.electorate:
                self.say(before.id, has_vote=False)  # it learns that its vote was taken

    def revoke(self, number: int) -> None:
        self.cordon(number)
        self._set(revoked=self.state.revoked.set(f"m{number}", self.now))

    def cordon(self, number: int) -> None:
        cordon = Cordon(drain=True, since=self.now)
        self._set(cordons=self.state.cordons.set(f"m{number}", cordon))

    def uncordon(self, number: int) -> None:
        name = f"m{number}"
        if name in self.state.cordons:
            self._set(cordons=self.state.cordons.delete(name))

    def plan(self) -> ElectorateChange | None:
        return plan_electorate(self.state, self.raft(), self.unfit, self.time(), self.settings)

    def time(self) -> LeaderTime:
        return LeaderTime(self.now, self.steady_seconds)

    def raft(self) -> RaftStatus:
        return RaftStatus(
            RaftRole.LEADER, 1, self.leader, 1, 1, self.state.electorate, self.unheard
        )

    def step(self) -> ElectorateChange | None:
        change = self.plan()
        voters = set(self.state.electorate)
        match change:
            case GrantVote(member_id=who):
                assert who not in voters
                voters.add(who)
                if self.newcomers_vote:
                    self.say(who, has_vote=True)
            case WithdrawVote(member_id=who):
                assert who in voters
                assert who != self.leader
                voters.remove(who)
                if self.lives(who):
                    self.say(who, has_vote=False)
            case TransferLeadership(member_id=who):
                assert who in voters
                assert self.lives(who)
                self.leader = who
        self._set(electorate=tuple(sorted(voters)))
        return change

    def settle(self) -> list[ElectorateChange]:
        """All changes until none is planned."""
        changes: list[ElectorateChange] = []
        while (change := self.step()) is not None:
            changes.append(change)
            assert len(changes) < 30, changes
        return changes

    def lives(self, who: str) -> bool:
        return self.state.members[who].lives

    def living(self) -> list[str]:
        return [who for who in self.state.electorate if self.lives(who)]

    def elect(self) -> None:
        """Another voter leads, where the leader is gone."""
        if self.leader not in self.living() and self.living():
            self.leader = self.living()[0]

    def say(self, who: str, **flags: bool) -> None:
        """A member's own word of its vote."""
        changed = msgspec.structs.replace(self.state.members[who], **flags)
        self._set(members=self.state.members.set(who, changed))

    def _set(self, **changes: object) -> None:
        self.state = msgspec.structs.replace(self.state, **changes)


def world(count: int, voters: int = 3, **changes: object) -> World:
    members = [member(n, **changes) for n in range(1, count + 1)]
    return World(members, list(range(1, voters + 1)))


def what(changes: list[ElectorateChange]) -> list[str]:
    return [f"{type(one).__name__} {one.member_id}" for one in changes]


# By example


def test_a_whole_electorate_stays_as_it_is() -> None:
    assert world(5).settle() == []


def test_a_voter_that_is_dead_for_long_is_removed_and_then_replaced() -> None:
    it = world(4)
    it.turn(3, MemberState.DEAD)
    it.now += AFTER - 1
    assert it.settle() == []
    it.now += 2
    changes = it.settle()
    assert what(changes) == ["WithdrawVote m3", "GrantVote m4"]
    assert changes[0] == WithdrawVote("m3", "host3 has been dead for 31 s")


def test_what_comes_back_after_it_was_replaced_does_not_fight() -> None:
    it = world(4)
    it.turn(3, MemberState.DEAD)
    it.now += AFTER
    it.settle()
    it.turn(3, MemberState.ALIVE)
    it.now += 1000
    assert it.settle() == []
    assert it.state.electorate == ("m1", "m2", "m4")


def test_a_voter_that_left_is_replaced_at_once() -> None:
    it = world(4)
    it.turn(2, MemberState.LEFT)
    assert what(it.settle()) == ["WithdrawVote m2", "GrantVote m4"]


def test_without_a_spare_a_dead_voter_keeps_its_vote_for_it_may_come_back() -> None:
    it = world(3)
    it.turn(3, MemberState.DEAD)
    it.now += 1000
    assert it.settle() == []


@pytest.mark.parametrize("flag", ["has_vote", "vote_is_damaged"])
def test_one_that_has_not_put_its_old_vote_away_is_given_no_new_one(flag: str) -> None:
    it = world(3, voters=2)
    it.say("m3", **{flag: True})
    assert it.settle() == []
    it.say("m3", **{flag: False})
    assert what(it.settle()) == ["GrantVote m3"]


def test_two_dead_of_five_leave_three_where_there_is_no_spare() -> None:
    it = world(5, voters=5)
    it.turn(4, MemberState.DEAD)
    it.turn(5, MemberState.DEAD)
    it.now += AFTER
    assert what(it.settle()) == ["WithdrawVote m5", "WithdrawVote m4"]


def test_a_revoked_voter_is_out_at_once_even_without_a_spare() -> None:
    it = world(3)
    it.revoke(2)
    assert it.settle() == [WithdrawVote("m2", "host2 is revoked")]
    it = world(4)
    it.revoke(2)
    assert what(it.settle()) == ["WithdrawVote m2", "GrantVote m4"]


def test_without_a_quorum_nothing_is_planned() -> None:
    it = world(6)
    it.turn(2, MemberState.DEAD)
    it.turn(3, MemberState.DEAD)
    it.now += 1000
    assert it.plan() is None


def test_a_drained_voter_goes_after_its_replacement_came() -> None:
    it = world(4)
    it.cordon(2)
    assert what(it.settle()) == ["GrantVote m4", "WithdrawVote m2"]


def test_a_drained_leader_lets_another_lead_first() -> None:
    it = world(4)
    it.cordon(1)
    assert what(it.settle()) == ["GrantVote m4", "TransferLeadership m4", "WithdrawVote m1"]


def test_from_seven_members_on_there_are_five_voters_until_five_cannot_be() -> None:
    it = world(6)
    assert it.settle() == []
    it = world(7)
    assert what(it.settle()) == ["GrantVote m4", "GrantVote m5"]
    it.turn(6, MemberState.DEAD)
    it.turn(7, MemberState.DEAD)
    it.now += 1000
    assert it.settle() == []  # no flapping between six and seven
    it.turn(5, MemberState.DEAD)
    it.now += AFTER
    assert what(it.settle()) == ["WithdrawVote m5", "WithdrawVote m4"]


@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_operator_may_say_how_many(size: int) -> None:
    it = world(9, voters=3)
    it.settings = ElectorateSettings(size=size)
    it.settle()
    assert len(it.state.electorate) == size
    assert it.leader in it.state.electorate


def test_a_cluster_of_one_grows_once_there_are_three() -> None:
    it = world(2, voters=1)
    assert it.settle() == []
    it = world(3, voters=1)
    assert what(it.settle()) == ["GrantVote m2", "GrantVote m3"]


def test_tagged_members_come_first_then_other_zones_then_free_memory() -> None:
    members = [
        member(1, zone="a"),
        member(2, zone="b"),
        member(3, state=MemberState.DEAD, state_since=NOW - AFTER),
        member(4, zone="a", resources=Resources(8, 90_000)),
        member(5, zone="c"),
        member(6, zone="c", resources=Resources(8, 4096)),
    ]
    it = World(members, [1, 2, 3])
    assert what(it.settle())[-1] == "GrantVote m6"
    members[3] = msgspec.structs.replace(members[3], voter_tag=True)
    it = World(members, [1, 2, 3])
    assert what(it.settle())[-1] == "GrantVote m4"


def test_a_newcomer_that_does_not_vote_holds_all_else_back_and_goes_in_time() -> None:
    it = world(5)
    it.turn(3, MemberState.DEAD)
    it.now += AFTER
    it.newcomers_vote = False
    assert what([it.step(), it.step()]) == ["WithdrawVote m3", "GrantVote m4"]
    it.cordon(2)
    assert it.plan() is None
    it.unheard = {"m4": int(AFTER) - 1}
    assert it.plan() is None
    it.unheard, it.unfit = {"m4": int(AFTER)}, {"m4"}
    assert it.step() == WithdrawVote("m4", "host4 takes no part in Raft for 30 s")
    it.unheard = {}
    assert what([it.step()]) == ["GrantVote m5"]


def test_who_died_by_the_stamp_of_an_earlier_leader_is_waited_for_anew() -> None:
    """That leader's clock may be an hour ahead, and the death a moment ago, or over by now."""
    it = world(4)
    it.turn(3, MemberState.DEAD)
    for wrong_by in (-3600.0, 3600.0):
        it.now, it.steady_seconds = NOW + wrong_by, AFTER - 0.1
        assert it.plan() is None
        it.steady_seconds = AFTER
        assert it.plan() == WithdrawVote("m3", "host3 has been dead for 30 s")


def test_a_change_under_way_is_waited_for() -> None:
    it = world(5)
    it.turn(2, MemberState.LEFT)
    raft = msgspec.structs.replace(it.raft(), electorate=("m1", "m2", "m3", "m4"))
    assert plan_electorate(it.state, raft, it.unfit, it.time(), SETTINGS) is None


# Under any history

members_of = st.integers(3, 9).flatmap(
    lambda count: st.tuples(
        *(
            st.builds(
                member,
                st.just(n),
                zone=st.sampled_from(["", "a", "b", "c"]),
                voter_tag=st.booleans(),
                resources=st.builds(Resources, st.just(2), st.integers(512, 4096)),
            )
            for n in range(1, count + 1)
        )
    )
)
history = st.lists(
    st.tuples(
        st.integers(1, 9),
        st.sampled_from(
            [*(state.value for state in MemberState), "alive", "alive", "cordon", "uncordon"]
        ),
        st.floats(0.1, 3 * AFTER),
    ),
    max_size=40,
)


def happen(it: World, number: int, word: str, seconds: float) -> None:
    it.now += seconds
    if f"m{number}" not in it.state.members:
        return
    match word:
        case "cordon":
            it.cordon(number)
        case "uncordon":
            it.uncordon(number)
        case _:
            it.turn(number, MemberState(word))
    it.elect()


def crowding(it: World, voters: set[str]) -> Counter[str]:
    zones = (it.state.members[who].zone or who for who in voters)
    return Counter(zones)


@settings(max_examples=100, deadline=None)
@given(members_of, history)
def test_no_change_lowers_what_may_fail_or_the_quorum(
    members: tuple[Member, ...], steps: list[tuple[int, str, float]]
) -> None:
    it = World(list(members), [1, 2, 3])
    for number, word, seconds in steps:
        happen(it, number, word, seconds)
        size, living = len(it.state.electorate), len(it.living())
        before = tolerance(living, size)
        change = it.step()
        after = tolerance(len(it.living()), len(it.state.electorate))
        if change is None:
            continue
        assert before >= 0, "a change without a quorum"
        assert after >= min(before, 1 if size <= 5 else 2)
        if isinstance(change, GrantVote):
            assert tolerance(living, size + 1) >= 0, "the newcomer is needed at once"
            assert it.state.members[change.member_id].state is MemberState.ALIVE
            assert change.member_id not in it.state.cordons
        assert change.reason


@settings(max_examples=100, deadline=None)
@given(members_of, history)
def test_once_all_is_quiet_it_converges_to_living_voters_of_the_right_number(
    members: tuple[Member, ...], steps: list[tuple[int, str, float]]
) -> None:
    it = World(list(members), [1, 2, 3])
    for number, word, seconds in steps:
        happen(it, number, word, seconds)
        it.step()
    if tolerance(len(it.living()), len(it.state.electorate)) < 0:
        return
    it.now += AFTER + SETTLED_AFTER_SECONDS
    it.settle()
    fit = [
        one
        for one in it.state.members.values()
        if one.state is MemberState.ALIVE and one.id not in it.state.cordons
    ]
    if len(fit) >= 3:
        assert len(it.state.electorate) in (3, 5)
        odd = [
            who
            for who in it.state.electorate
            if it.state.members[who].state in (MemberState.DEAD, MemberState.LEFT)
            or who in it.state.cordons
        ]
        assert odd == []
    if len(fit) >= 7:
        assert len(it.state.electorate) == 5
    it.now += 10_000
    assert it.plan() is None


@settings(max_examples=100, deadline=None)
@given(members_of, history)
def test_no_voter_goes_without_a_reason_of_its_own_so_nothing_flaps(
    members: tuple[Member, ...], steps: list[tuple[int, str, float]]
) -> None:
    it = World(list(members), [1, 2, 3])
    for number, word, seconds in steps:
        happen(it, number, word, seconds)
        size = len(it.state.electorate)
        change = it.step()
        if isinstance(change, WithdrawVote):
            voter = it.state.members[change.member_id]
            gone = voter.state is MemberState.LEFT or (
                voter.state is MemberState.DEAD and it.now - voter.state_since >= AFTER
            )
            assert gone or voter.id in it.state.cordons or size > 3
        elif isinstance(change, GrantVote):
            joiner = it.state.members[change.member_id]
            assert it.now - joiner.state_since >= SETTLED_AFTER_SECONDS


@settings(max_examples=60, deadline=None)
@given(members_of, st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=60))
def test_short_absences_change_nothing(
    members: tuple[Member, ...], blinks: list[tuple[int, bool]]
) -> None:
    it = World(list(members), [1, 2, 3])
    it.settle()
    settled = it.state.electorate
    for number, dead in blinks:
        happen(it, number, "dead" if dead else "suspect", AFTER / 2)
        it.step()
        happen(it, number, "alive", AFTER / 3)
        it.step()
    assert it.state.electorate == settled


@settings(max_examples=100, deadline=None)
@given(members_of, history)
def test_a_vote_goes_where_the_fewest_voters_share_its_fate(
    members: tuple[Member, ...], steps: list[tuple[int, str, float]]
) -> None:
    it = World(list(members), [1, 2, 3])
    for number, word, seconds in steps:
        happen(it, number, word, seconds)
        before = set(it.state.electorate)
        change = it.plan()
        if isinstance(change, GrantVote):
            going = {who for who in before if who in it.state.cordons}
            crowds = crowding(it, before - going) if len(before) >= 3 else crowding(it, before)
            chosen = it.state.members[change.member_id]
            rivals = [
                one
                for one in it.state.members.values()
                if one.id not in before
                and one.id not in it.state.cordons
                and one.state is MemberState.ALIVE
                and it.now - one.state_since >= SETTLED_AFTER_SECONDS
                and one.voter_tag == chosen.voter_tag
            ]
            least = min(crowds[one.zone or one.id] for one in rivals)
            assert crowds[chosen.zone or chosen.id] <= least + len(going)
        it.step()
