"""Which members run the hub, and how it moves from one to another. Pure.

Invariant: no server leaves while it may be needed for a message that was acknowledged. Whoever
comes is added first; whoever goes stays until others have all that it had, and only one goes at a
time. Only a server that is dead anyway is not waited for.
"""

from __future__ import annotations

from sappers.model.cluster_state import ClusterState
from sappers.model.commands import SetHub
from sappers.model.hub import EvacuateServer, ForgetServer, HubAction, HubReading, member_of
from sappers.model.member import MemberState


def plan_hub(state: ClusterState, reading: HubReading | None) -> tuple[SetHub, ...]:
    """The next change of the hub's servers: they follow the voters. Empty when none is due.

    Args:
        state: The leader's.
        reading: Where durable messages are; None while nobody knows.
    """
    electorate, servers = state.electorate, state.hub_servers
    if servers == electorate or not all(voter in state.members for voter in electorate):
        return ()
    if not servers:
        return (SetHub(electorate),)
    joining = tuple(voter for voter in electorate if voter not in servers)
    if joining:
        return (SetHub((*servers, *joining)),)
    leaving = leaving_servers(state)
    if not leaving:
        return (SetHub(electorate),)  # the same ones in another order
    gone = next((one for one in leaving if _is_gone(state, one) or _is_free(one, reading)), None)
    if gone is None:
        return ()
    return (SetHub(tuple(server for server in servers if server != gone)),)


def leaving_servers(state: ClusterState) -> tuple[str, ...]:
    """Servers that are to go."""
    return tuple(server for server in state.hub_servers if server not in state.electorate)


def plan_moves(state: ClusterState, reading: HubReading) -> tuple[HubAction, ...]:
    """What is to be asked of the hub itself, so that its servers can follow the voters.

    Args:
        state: The leader's.
        reading: Where durable messages are.
    """
    actions: list[HubAction] = []
    online = {member_of(name): name for name, here in reading.peers.items() if here}
    all_here = set(state.electorate) <= online.keys()
    for member_id in leaving_servers(state):
        # Not before whoever takes over is there: there would be fewer copies.
        if online.get(member_id) in reading.holders and all_here:
            actions.append(EvacuateServer(online[member_id]))
            break
    actions.extend(
        ForgetServer(name)
        for name, here in sorted(reading.peers.items())
        if not here and (member_of(name) not in state.hub_servers or member_of(name) in online)
    )
    return tuple(actions)


def votes_settled(state: ClusterState, reading: HubReading) -> bool:
    """Whether the hub's servers are the voters, and no other has a say about where streams are.

    Until then it is looked at more often: who has a say and is gone counts against the hub's own
    quorum, and the next loss may be the one too many.
    """
    servers, say = set(state.hub_servers), [member_of(name) for name in reading.peers]
    return servers == set(state.electorate) and servers >= set(say) and len(set(say)) == len(say)


def _is_gone(state: ClusterState, server: str) -> bool:
    member = state.members.get(server)
    dead = member is None or member.state in (MemberState.DEAD, MemberState.LEFT)
    return dead or server in state.revoked  # which the others let in no more


def _is_free(server: str, reading: HubReading | None) -> bool:
    holders = {member_of(name) for name in reading.holders} if reading is not None else set()
    return reading is not None and reading.settled and server not in holders
