"""What the state machine does with suspicions. Pure."""

from __future__ import annotations

import msgspec

from sappers.consensus.step import Happened, Step
from sappers.errors import CommandRefused
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import SetSuspicion
from sappers.model.member import MemberState
from sappers.model.suspicion import Suspicion


def apply_suspicion(state: ClusterState, command: SetSuspicion, time: float) -> Step:
    """Record what is held against a member.

    Raises:
        CommandRefused: There is no such member.
    """
    member = state.members.get(command.member_id)
    if member is None:
        raise CommandRefused(f"no member {command.member_id}")
    before = state.suspicions.get(member.id)
    sources = tuple(dict.fromkeys(command.sources))
    held = before.sources if before is not None else ()
    if sources == held:
        return state, ()
    goes_on = before is not None and bool(sources) and bool(held)
    after = Suspicion(
        member_id=member.id,
        sources=sources,
        reason=command.reason if sources or before is None else before.reason,
        since=before.since if goes_on and before is not None else time,
        changed_at=time,
    )
    changed = msgspec.structs.replace(state, suspicions=state.suspicions.set(member.id, after))
    if sources:
        text = f"{member.name} is suspected by {', '.join(sources)}: {command.reason}"
        is_news = not held and member.state is MemberState.ALIVE
        follows = () if is_news else None
        return changed, (Happened("member.suspected", member.id, text, follows),)
    text = f"{member.name} is trusted again, after {', '.join(held)} spoke against it"
    return changed, (Happened("member.trusted", member.id, text),)
