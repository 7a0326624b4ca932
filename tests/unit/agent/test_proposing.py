"""What not all members know is refused where it is proposed; the leader may answer anything."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import immutables
import pytest

from sappers.agent.proposing import Proposer
from sappers.errors import CommandRefused, OutcomeUnknown
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Proposal
from sappers.model.member import Member, MemberState
from sappers.model.observation import RaftRole
from tests.unit.two_formats import NEW, OLD, Mark
from tests.unit.worlds import member


def proposer(*gossip: Member) -> Proposer:
    state = ClusterState(
        format=OLD, members=immutables.Map({one.id: one.lasting() for one in gossip})
    )
    log = SimpleNamespace(state=lambda: state)
    service: Any = SimpleNamespace(log=log, members=lambda: gossip)
    return Proposer(service, cast(Any, None))


async def test_who_stands_against_it_is_named_with_what_to_do() -> None:
    mark: Any = (Mark("m"),)
    wanted = Proposal("r", "m1", 0.0, mark)
    gone = member(3, log_format=OLD, state=MemberState.DEAD)
    some = proposer(member(1, log_format=NEW), member(2, log_format=OLD), gone)
    with pytest.raises(CommandRefused) as refused:
        await some.propose(wanted, 1.0)
    two, three = member(2), gone
    assert refused.value.message == (
        f"not all members know this yet: it needs format {NEW} of the log, which has {OLD};"
        f" not known to {two.name} ({two.version}, alive), {three.name} ({three.version}, dead)"
    )
    assert "forget" in (refused.value.hint or "")
    with pytest.raises(CommandRefused) as refused:
        await proposer(member(1, log_format=NEW)).propose(wanted, 1.0)
    assert "try again" in (refused.value.hint or "")


@pytest.mark.parametrize("answer", [b"\xff", b"[" * 100_000, b"{}"])
async def test_an_answer_of_the_leader_that_cannot_be_read_leaves_the_outcome_unknown(
    answer: bytes,
) -> None:
    async def call(*_: Any, **__: Any) -> bytes:
        return answer

    service: Any = SimpleNamespace(
        log=SimpleNamespace(
            state=ClusterState, status=lambda: SimpleNamespace(role=RaftRole.FOLLOWER)
        ),
        me=member(1),
        leader=lambda: member(2),
    )
    peers: Any = SimpleNamespace(call=call)
    with pytest.raises(OutcomeUnknown, match="answers what cannot be read"):
        await Proposer(service, peers).propose(Proposal("r", "m1", 0.0, ()), 0.2)
