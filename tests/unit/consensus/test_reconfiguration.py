"""Voters come and go while the log goes on."""

from __future__ import annotations

import msgspec
import pytest

from sappers.consensus.joining import joiners_record
from sappers.consensus.recovery import LISTEN_SECONDS
from sappers.model.commands import AddVoter, RegisterMember, RemoveVoter, RevokeMember
from sappers.model.observation import RaftRole
from tests.unit.raft_worlds import (
    Answered,
    NewWorld,
    SimulatedVoter,
    World,
    new_world,
    proposal,
)
from tests.unit.worlds import member

__all__ = ["new_world"]


def electorates(world: World) -> set[tuple[str, ...]]:
    """What voters count with and what their states say."""
    nodes = [voter.node for voter in world.running.values()]
    return {node.status().electorate for node in nodes} | {node.state.electorate for node in nodes}


@pytest.fixture
def world(new_world: NewWorld) -> World:
    made = new_world(seed=1)
    made.found()
    return made


def test_one_voter_grows_to_three_and_shrinks_again(new_world: NewWorld) -> None:
    world = new_world(seed=1, voters=1)
    world.found()
    world.write()
    for voter in ("v1", "v2"):
        world.add(voter)
        world.write()
    world.settle()
    assert electorates(world) == {("v0", "v1", "v2")}
    assert all(world.running[v].snapshots_taken_over == 1 for v in ("v1", "v2"))
    for gone in [v for v in world.running if world.running[v] is not world.leader()]:
        world.remove(gone)
        world.write()
    world.run_until(lambda: len(world.running) == 1)
    assert electorates(world) == {tuple(world.running)}
    world.check()


def test_each_voter_is_replaced_in_turn(world: World) -> None:
    for number in range(3):
        old, new = f"v{number}", f"v{number + 3}"
        world.add(new)
        if world.leader().me == old:
            answer = world.transfer(next(v for v in world.running if v != old))
            assert answer.outcome == "done"
        world.remove(old)
        world.run_until(lambda old=old: old not in world.running)  # type: ignore[misc]
        world.write()
    world.voters = ("v3", "v4", "v5")
    world.settle()
    assert electorates(world) == {world.voters}
    world.check()


def test_the_leader_removes_others_and_never_itself(world: World) -> None:
    leader = world.leader()
    answer = world.change(RemoveVoter(leader.me), leader)
    world.run_until(lambda: bool(answer.outcome))
    assert (answer.outcome, "transfer leadership first" in answer.reason) == ("rejected", True)
    successor = next(voter for voter in world.voters if voter != leader.me)
    assert world.transfer(successor).outcome == "done"
    assert world.leader().me == successor
    world.remove(leader.me)
    world.run_until(lambda: leader.me not in world.running)
    assert leader.removed_at == world.leader().node.state.electorate_index


def test_of_changes_at_once_one_takes_effect(world: World) -> None:
    leader = world.leader()
    answers = [world.change(AddVoter(f"v{number}", ""), leader) for number in (3, 4, 5)]
    world.run_until(lambda: all(answer.outcome for answer in answers))
    assert [answer.outcome for answer in answers] == ["done", "rejected", "rejected"]
    assert "another change" in answers[1].reason
    assert len(leader.node.state.electorate) == 4


def test_leadership_moves_in_one_election(world: World) -> None:
    leader = world.leader()
    target = next(voter for voter in world.voters if voter != leader.me)
    term = leader.node.status().term
    answer = world.transfer(target)
    assert answer.outcome == "done"
    assert world.leader().node.status().term == term + 1, "no other election was needed"


def test_leadership_is_kept_when_the_other_does_not_take_it(world: World) -> None:
    leader = world.leader()
    target = next(voter for voter in world.voters if voter != leader.me)
    world.run_until(lambda: target in leader.world.network.transports[leader.me].connected)
    world.crash(target)
    answer = world.transfer(target)
    assert answer.outcome == "rejected"
    assert world.leader() is leader
    world.write()


def test_who_was_cut_off_while_it_was_removed_is_told_when_it_is_back(world: World) -> None:
    leader = world.leader()
    gone = next(voter for voter in world.voters if voter != leader.me)
    for other in world.voters:
        if other != gone:
            world.network.set_link(gone, other, up=False)
    world.remove(gone)
    term = leader.node.status().term
    for _ in range(300):
        world.step()
    assert gone in world.running, "it cannot know yet"
    world.network.cut.clear()
    world.run_until(lambda: gone not in world.running)
    assert leader.node.status().term == term, "it unseated nobody"


def test_a_voter_that_starts_again_with_the_first_list_of_voters_catches_up(world: World) -> None:
    sleeper = next(voter for voter in world.voters if voter != world.leader().me)
    world.crash(sleeper)
    world.add("v3")
    for _ in range(30):
        world.write()
    other = next(v for v in world.running if v not in (world.leader().me, "v3"))
    world.remove(other)
    world.run_until(lambda: other not in world.running)
    world.voters = tuple(sorted({*world.running, sleeper}))
    world.settle()
    assert electorates(world) == {world.voters}
    world.check()


def test_a_joiner_that_starts_early_waits_and_is_told_nothing_false(world: World) -> None:
    """It is not in the configuration of anybody: what it asks for, nobody grants."""
    leader = world.leader()
    expected = leader.node.state
    world.records["v3"] = joiners_record(
        msgspec.structs.replace(
            expected,
            electorate=(*expected.electorate, "v3"),
            electorate_index=expected.index + 1,
        )
    )
    early = world.start("v3")
    for _ in range(500):
        world.step()
    assert early.removed_at is None, "whoever has not heard of it cannot dismiss it"
    assert early.node.status().term <= leader.node.status().term
    assert world.leader() is leader
    world.insist(AddVoter("v3", ""))
    world.run_until(lambda: early.node.state.index == leader.node.state.index)
    world.voters = (*world.voters, "v3")
    world.settle()
    world.check()


def test_a_joiner_votes_in_no_term_that_it_may_have_voted_in_before(world: World) -> None:
    world.write()
    gone = next(voter for voter in world.voters if voter != world.leader().me)
    world.remove(gone)
    world.run_until(lambda: gone not in world.running)
    for path in (world.folder / gone).iterdir():
        path.unlink()
    world.add(gone)
    fresh = world.running[gone]
    assert fresh.journal.getCurrentTerm() == world.leader().node.status().term
    assert fresh.journal.getVotedForNodeId() not in (None, *world.voters)
    world.settle()
    world.check()


def test_a_survivor_goes_on_alone_and_grows_again(world: World) -> None:
    names = [world.write() for _ in range(5)]
    survivor = world.leader()
    gone = [voter for voter in world.voters if voter != survivor.me]
    refused = recover(world, survivor)
    assert (refused.outcome, "not lost" in refused.reason) == ("rejected", True)
    for voter in gone:
        world.crash(voter)
    world.run_until(lambda: survivor.node.status().leader_id is None)
    before = survivor.node.status().term
    assert recover(world, survivor).outcome == "done"
    assert survivor.node.status().term > before + 900, "who is lost may have had terms of its own"
    assert survivor.node.state.electorate == (survivor.me,) == survivor.node.status().electorate
    names += [world.write()]
    world.add("v3")
    names += [world.write()]
    for voter in gone:  # they come back after all, with what they knew
        world.start(voter)
    world.run_until(lambda: not set(gone) & set(world.running))
    world.crash(survivor.me)
    world.voters = tuple(sorted({survivor.me, "v3"}))
    world.settle()
    world.check()
    assert set(names) <= set(world.newest_state().workloads)


def test_who_knows_a_later_electorate_than_was_recovered_is_told_all_the_same(
    world: World,
) -> None:
    """What it knows was given up: the recovered log has its electorate at a lower index."""
    sleeper = next(voter for voter in world.voters if voter != world.leader().me)
    world.crash(sleeper)
    for _ in range(20):
        world.write()
    world.add("v3")
    other = next(v for v in world.running if v != world.leader().me)
    knows = world.running[other].node
    world.run_until(lambda: "v3" in knows.state.electorate)
    for voter in list(world.running):
        world.crash(voter)
    survivor = world.start(sleeper)
    world.committed.clear()  # it knows none of these
    assert recover(world, survivor).outcome == "done"
    assert survivor.node.state.electorate_index < knows.state.electorate_index
    world.start(other)
    world.run_until(lambda: other not in world.running)


def test_a_voter_that_has_just_started_listens_before_it_goes_on_alone(world: World) -> None:
    world.write()
    world.settle()
    for voter in world.voters:
        world.crash(voter)
    survivor = world.start("v0")
    answer = ask_to_recover(survivor)
    for _ in range(100):
        world.step()
    assert answer.outcome == ""
    world.start("v1")  # it was not gone: there would be two clusters
    world.run_until(lambda: bool(answer.outcome))
    assert (answer.outcome, "not lost" in answer.reason) == ("rejected", True)
    world.crash("v1")
    world.crash("v0")
    started, survivor = world.now, world.start("v0")
    assert recover(world, survivor).outcome == "done"
    assert world.now - started >= LISTEN_SECONDS
    assert survivor.node.state.electorate == ("v0",)


def test_who_goes_on_alone_waits_for_leases_that_others_have_granted(world: World) -> None:
    survivor, asked = world.leader(), Answered()
    for voter in [one for one in world.voters if one != survivor.me]:
        world.crash(voter)
    world.run_until(lambda: survivor.node.status().leader_id is None)
    asked_at = world.now
    survivor.node.recover(proposal("recover"), asked, 20.0)
    world.run_until(lambda: bool(asked.outcome))
    assert asked.outcome == "done"
    assert world.now - asked_at >= 20.0


def test_a_leader_that_is_revoked_is_heard_no_more(world: World) -> None:
    revoked, answer = world.leader(), Answered()
    itself = msgspec.structs.replace(member(7), id=revoked.me)
    revoked.node.propose(
        proposal("revoke", RegisterMember(itself), RevokeMember(revoked.me)), answer
    )
    world.run_until(lambda: any(one.node.state.revoked for one in world.running.values()))
    others = [one for one in world.running.values() if one is not revoked]
    world.run_until(lambda: any(one.node.status().role is RaftRole.LEADER for one in others))
    terms = {one.node.status().term for one in others}
    for _ in range(300):  # its links are whole here: it goes on to send, and nobody minds
        world.step()
    assert {one.node.status().term for one in others} == terms
    world.check()


def test_a_revoked_member_gets_no_vote(world: World) -> None:
    answer = Answered()
    gone = RegisterMember(member(7)), RevokeMember("m7")
    world.leader().node.propose(proposal("revoke", *gone), answer)
    world.run_until(lambda: answer.outcome == "done")
    refused = world.change(AddVoter("m7", ""))
    world.run_until(lambda: bool(refused.outcome))
    assert (refused.outcome, "m7 is revoked" in refused.reason) == ("rejected", True)


def test_a_newcomer_that_has_said_nothing_makes_no_state_new_and_no_quorum(world: World) -> None:
    """It is given time until it counts as silent, which is not the same as an answer."""
    leader = world.leader()
    first, second = [voter for voter in world.voters if voter != leader.me]
    world.remove(first)
    world.insist(AddVoter("v3", ""))
    world.crash(second)
    age = leader.node.state_age() or 0.0
    for _ in range(200):
        world.step()
    assert leader.node.state_age() >= age + 1.9, "nobody has answered it for two seconds"
    assert not leader.node._would_have_quorum(leader.node._configuration)


def recover(world: World, voter: SimulatedVoter) -> Answered:
    answer = ask_to_recover(voter)
    world.run_until(lambda: bool(answer.outcome))
    return answer


def ask_to_recover(voter: SimulatedVoter) -> Answered:
    answer = Answered()
    voter.node.recover(proposal("recover"), answer)
    return answer


@pytest.mark.parametrize("seed", range(8))
def test_crashes_cuts_and_changes_of_voters_lose_nothing(new_world: NewWorld, seed: int) -> None:
    world = new_world(seed=seed)
    world.found()
    chance, ids = world.chance, [f"v{number}" for number in range(6)]
    for _ in range(2000):
        world.step()
        if chance.random() < 0.3:
            world.propose()
        if chance.random() < 0.02 and world.running:
            world.crash(chance.choice(sorted(world.running)))
        if chance.random() < 0.03:
            a, b = chance.sample(ids, 2)
            world.network.set_link(a, b, up=False)
        if chance.random() < 0.1 and world.network.cut:
            a, b = sorted(chance.choice(sorted(world.network.cut, key=sorted)))
            world.network.set_link(a, b, up=True)
        if chance.random() < 0.02:
            change_something(world, ids)
        if chance.random() < 0.08:
            start_something(world)
    heal(world)
    world.check()
    assert world.acknowledged()
    assert sum(answer.outcome == "done" for answer in world.changes) > 2


def introduce_all(world: World) -> None:
    """Who knows no leader may know none of today's voters: it hears of them by gossip."""
    for name, voter in world.running.items():
        leaderless = voter.node.status().leader_id is None
        world.network.transports[name].introduce(world.running if leaderless else ())


def change_something(world: World, ids: list[str]) -> None:
    leaders = world.leaders_now()
    if not leaders:
        return
    leader = world.chance.choice(leaders)
    electorate = leader.node.state.electorate
    outside = [one for one in ids if one not in electorate and one not in world.running]
    if len(electorate) < 5 and outside and world.chance.random() < 0.6:
        world.change(AddVoter(world.chance.choice(outside), ""), leader)
    elif len(electorate) > 2:
        world.change(RemoveVoter(world.chance.choice(electorate)), leader)


def start_something(world: World) -> None:
    """A voter of the newest state: a joiner with its record, others as they stopped."""
    newest = world.newest_state()
    stopped = [voter for voter in newest.electorate or world.voters if voter not in world.running]
    if not stopped:
        return
    voter = world.chance.choice(stopped)
    if voter in world.dismissed or voter not in world.records.get(voter, world.genesis).voters:
        world.dismissed.discard(voter)
        for path in (world.folder / voter).glob("*"):  # as its agent does
            path.unlink()
        world.records[voter] = joiners_record(newest)
    world.start(voter)


def heal(world: World) -> None:
    """Until those run that vote, and no others, and all agree."""
    world.network.cut.clear()

    def is_whole() -> bool:
        start_something(world)
        introduce_all(world)
        return electorates(world) == {tuple(sorted(world.running))} and world.agree()

    world.run_until(is_whole)
