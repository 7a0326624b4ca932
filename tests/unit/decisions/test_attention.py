from __future__ import annotations

import msgspec

from sappers.decisions.attention import attention
from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import PlaceAllocation, PutWorkload, ReportAllocation, SetHub
from sappers.model.member import Member, MemberState
from sappers.model.observation import RaftRole, RaftStatus
from sappers.model.refusal import Refusal
from sappers.model.repair import RepairStatus
from sappers.model.repair_commands import CloseRepair
from sappers.model.view import MemberHealth
from tests.unit.repair_worlds import died, opened, revived
from tests.unit.worlds import allocation, commit, founded, member, workload

VOTERS = ("m1", "m2", "m3")


def world(count: int = 3) -> ClusterState:
    state, _ = commit(founded(count), SetHub(VOTERS))
    return state


def gossip(*dead: int, count: int = 3) -> list[Member]:
    return [
        member(n, state=MemberState.DEAD if n in dead else MemberState.ALIVE)
        for n in range(1, count + 1)
    ]


def health(number: int, **changes: object) -> MemberHealth:
    made = MemberHealth(
        member_id=f"m{number}",
        name=f"host{number}",
        version="0.1.0",
        cluster_id="c1",
        role="follower",
        term=1,
        leader_id="m1",
        commit_index=9,
        applied_index=9,
        hub="running" if number <= 3 else "-",
        hub_connected=True,
    )
    return msgspec.structs.replace(made, **changes)


def healths(*numbers: int) -> dict[str, MemberHealth]:
    return {f"m{n}": health(n) for n in numbers}


def raft(leader: str | None = "m1") -> RaftStatus:
    return RaftStatus(RaftRole.FOLLOWER, 1, leader, 9, 9, VOTERS)


def with_copies(count: int, **changes: object) -> ClusterState:
    """One copy of `hello` on m2, `count` wanted."""
    state, _ = commit(world(), PutWorkload(workload(count=count)))
    revision = state.workloads["hello"].revision
    copy = allocation("hello-00000001", revision=revision, member_id="m2")
    state, _ = commit(state, PlaceAllocation(copy, "room"))
    report = {"status": AllocationStatus.HEALTHY, "reason": "it says so"} | changes
    state, outcome = commit(state, ReportAllocation(copy.id, **report))
    assert not outcome.refused
    return state


def test_a_healthy_cluster_asks_for_nothing() -> None:
    assert attention(with_copies(1), gossip(), raft(), healths(1, 2, 3)) == ()


def test_a_cluster_that_is_not_founded_says_so() -> None:
    status = RaftStatus(RaftRole.NONE, 0, None, 0, 0)
    (said,) = attention(ClusterState(), gossip(), status, healths(1, 2, 3))
    assert "not founded yet" in said


def test_a_dead_voter_is_named_with_its_address_and_what_to_do() -> None:
    (said,) = attention(world(), gossip(2), raft(), healths(1, 3))
    assert said == "host2 (a voter, 10.0.0.2) is dead: start the host, or sappers on it"


def test_lost_quorum_comes_first_and_names_the_missing() -> None:
    first, *rest = attention(world(), gossip(2, 3), raft(None), healths(1))
    assert first.startswith("quorum is lost: 1 of 3 voters are here, 2 are needed")
    assert first.endswith("start sappers on host2, host3")
    assert len(rest) == 2


def test_no_leader_with_enough_voters() -> None:
    (said,) = attention(world(), gossip(), raft(None), healths(1, 2, 3))
    assert said.startswith("nobody leads, though 3 of 3 voters are here")


def test_without_a_leader_a_voter_that_does_not_answer_is_not_counted() -> None:
    members = [member(1, state=MemberState.SUSPECT), *gossip()[1:]]
    first, *_ = attention(world(), members, raft(None), healths(3))
    assert first.startswith("quorum is lost: 1 of 3 voters are here")
    assert first.endswith("start sappers on host1, host2")


def test_a_slow_answer_is_no_lost_quorum_while_somebody_leads() -> None:
    said = attention(world(), gossip(), raft("m1"), healths(1))
    assert not [text for text in said if "quorum" in text]


def test_a_suspect_member_is_no_reason_to_act() -> None:
    members = [*gossip()[:2], member(3, state=MemberState.SUSPECT)]
    assert attention(world(), members, raft(), healths(1, 2)) == ()


def test_alive_but_mute() -> None:
    (said,) = attention(world(), gossip(), raft(), healths(1, 2))
    assert "host3 is alive but does not answer at 10.0.0.3 port 11000" in said


def test_an_old_identity_of_a_living_host_is_left_alone_unless_it_votes() -> None:
    old = member(4, name="host1", state=MemberState.DEAD)
    assert attention(world(), [*gossip(), old], raft(), healths(1, 2, 3)) == ()
    wiped = [member(1, state=MemberState.DEAD), *gossip()[1:], member(4, name="host1")]
    (said,) = attention(world(), wiped, raft("m2"), healths(2, 3, 4))
    assert "host1 (a voter" in said


def test_a_hub_server_that_is_down() -> None:
    words = healths(1, 2) | {"m3": health(3, hub="down", hub_connected=False)}
    (said,) = attention(world(), gossip(), raft(), words)
    assert said.startswith("the hub server is down on host3")


def test_a_member_cut_off_from_the_hub() -> None:
    words = healths(1, 2, 3) | {"m4": health(4, hub_connected=False)}
    (said,) = attention(world(4), gossip(count=4), raft(), words)
    assert said.startswith("no connection to the hub from host4")


def test_a_gateway_that_is_not_as_wanted_is_told_with_the_reason() -> None:
    taken = "port 8080 of 10.0.0.2 is taken by another program; stop it, or set another"
    words = healths(1, 3) | {"m2": health(2, gateway_trouble=taken)}
    assert attention(world(), gossip(), raft(), words) == (f"the gateway on host2: {taken}",)


def test_a_failed_copy_is_told_with_reason_and_log() -> None:
    state = with_copies(1, status=AllocationStatus.FAILED, reason="guest panicked", restarts=3)
    (said,) = attention(state, gossip(), raft(), healths(1, 2, 3))
    assert said == (
        "0 of 1 copies of hello run; hello-00000001 failed on host2: guest panicked; "
        "see sappers-deploy logs hello-00000001"
    )


def test_a_guest_that_fails_again_and_again() -> None:
    state = with_copies(
        1, status=AllocationStatus.STARTING, reason="restarting: exit code 1", restarts=2
    )
    (said,) = attention(state, gossip(), raft(), healths(1, 2, 3))
    assert said.startswith("hello-00000001 on host2 was restarted 2 times and is starting")
    once = with_copies(1, status=AllocationStatus.UNHEALTHY, reason="no push", restarts=1)
    assert attention(once, gossip(), raft(), healths(1, 2, 3)) == ()


def test_no_room() -> None:
    state, _ = commit(world(), PutWorkload(workload(memory_mib=4096)))
    (said,) = attention(state, gossip(), raft(), healths(1, 2, 3))
    assert said.startswith("0 of 1 copies of hello run, no room for more: host1 has 2048 MiB free")


def test_a_copy_that_is_about_to_be_placed_is_not_told() -> None:
    assert attention(with_copies(2), gossip(), raft(), healths(1, 2, 3)) == ()


def test_a_mix_of_versions() -> None:
    members = [*gossip()[:2], member(3, version="0.2.0")]
    (said,) = attention(world(), members, raft(), healths(1, 2, 3))
    assert said.startswith("agents differ in version: 0.1.0 on host1, host2, 0.2.0 on host3")


def test_a_guest_that_misbehaves_is_named_with_what_it_tried() -> None:
    loud = (
        Refusal("rate", "hello-1", 5210, 1.0),
        Refusal("forged", "hello-1", 3, 9.0),
        Refusal("news of a later version", "hello-1", 2, 9.0),
    )
    told = {**healths(1, 3), "m2": health(2, refusals=loud)}
    assert attention(world(), gossip(), raft(), told) == (
        "guest hello-1 misbehaves: 5,210 messages over its rate, 3 forged health pushes, 2 news of "
        "a later version refused on host2; see sappers-deploy logs hello-1, or stop it",
    )


def test_strangers_are_told_of_only_when_they_insist() -> None:
    strays = (Refusal("handshake", "10.0.0.9", 19, 1.0), Refusal("forged", "hello-1", 2, 1.0))
    told = {**healths(2, 3), "m1": health(1, refusals=strays)}
    assert attention(world(), gossip(), raft(), told) == ()
    insists = (Refusal("handshake", "10.0.0.9", 300, 1.0),)
    told = {n: health(int(n[1]), refusals=insists) for n in ("m1", "m2", "m3")}
    (sentence,) = attention(world(), gossip(), raft(), told)
    assert sentence.startswith("10.0.0.9 dials the agents: 900 connections without a certificate")
    assert "host1, host2, host3" in sentence


def test_of_many_that_misbehave_the_loudest_are_named() -> None:
    many = tuple(Refusal("rate", f"hello-{n}", 100 + n, 1.0) for n in range(20))
    found = attention(world(), gossip(), raft(), {**healths(2, 3), "m1": health(1, refusals=many)})
    assert len(found) == 9
    assert "hello-19" in found[0]
    assert found[-1].startswith("12 more misbehave")


def told_of_m2(state: ClusterState) -> str:
    """What is said of m2, which gossip has dead; gossip does not know since when."""
    sentences = attention(state, gossip(2), raft(), healths(1, 3))
    return "; ".join(one for one in sentences if one.startswith("host2"))


def test_a_member_that_is_being_repaired_needs_no_person_and_then_what_came_of_it_is_told() -> None:
    state = opened()
    assert told_of_m2(state) == ""
    moved, _ = commit(state, CloseRepair("r1", RepairStatus.MOVED, "no SSH: no answer"), time=130.0)
    assert "is dead, and no healer can reach it (no SSH: no answer): start" in told_of_m2(moved)
    failed, _ = commit(state, CloseRepair("r1", RepairStatus.FAILED, "it is odd"), time=130.0)
    assert "is dead, and cannot be repaired (it is odd): start the host" in told_of_m2(failed)


def test_a_repair_of_an_earlier_death_says_nothing_of_this_one() -> None:
    closing = CloseRepair("r1", RepairStatus.RESTORED, "alive again")
    state, _ = commit(revived(opened(), "m2", 120.0), closing, time=130.0)
    state = died(state, "m2", 500.0)
    assert "host2 (a voter, 10.0.0.2) is dead: start the host" in told_of_m2(state)


def test_workloads_without_durable_messages_are_named_with_the_reason() -> None:
    said = {"shop": "no room", "bank": "no room"}
    seen = {**healths(2, 3), "m1": health(1, role="leader", stream_trouble=said)}
    (told,) = [one for one in attention(world(), gossip(), raft(), seen) if "durable" in one]
    assert told == "no durable messages are kept for bank, shop: no room"


def test_a_voter_whose_raft_process_does_not_run_is_named_with_the_reason() -> None:
    words = healths(1, 3) | {"m2": health(2, raft_trouble="[Errno 28] No space left on device")}
    (found,) = attention(world(), gossip(), raft(), words)
    assert found.startswith("host2 has a vote, and its raft process does not run: [Errno 28]")
    assert "its disk" in found


def test_who_does_not_know_the_format_of_the_log_is_to_be_upgraded() -> None:
    words = healths(1, 3) | {"m2": health(2, log_trouble="the log has format 2")}
    (said,) = attention(world(), gossip(), raft(), words)
    assert said.startswith("host2 (0.1.0) needs a newer version and takes no part: the log has")
    assert said.endswith("upgrade it: sappers-deploy bootstrap")
    state = msgspec.structs.replace(world(), format=1)
    told = attention(state, gossip(), raft(), healths(1, 2, 3))
    assert len(told) == 3, "none of them says that it knows any"
    assert "the log has format 1, and it knows 0 at most" in told[0]
