"""What not all members know is refused where it is proposed, with who they are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import immutables
import pytest

from sappers.agent.proposing import Proposer
from sappers.errors import CommandRefused
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Proposal
from sappers.model.member import Member, MemberState
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
