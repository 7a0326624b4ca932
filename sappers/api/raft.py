"""Calls about consensus itself: who votes, who leads. They are for the member that is asked.

None is forwarded: an operator asks the leader, or the voter that is to go on alone.
"""

from __future__ import annotations

from sappers.api.call import Call
from sappers.api.raft_wire import RaftReport, WantedLeader, WantedRecovery
from sappers.api.wire import NoInput, Written
from sappers.errors import ApiError, CommandRefused, ProposalRejected
from sappers.model.observation import RaftRole
from sappers.ports import Applied

CHANGE_SECONDS = 10.0
RECOVERY_SECONDS = 20.0


async def report(call: Call) -> RaftReport:
    """GET /v1/raft."""
    service, me = call.service, call.service.me
    health, log = await service.health(), service.log
    trouble = health.vote_trouble or health.raft_trouble
    return RaftReport(me.id, me.name, log.state().cluster_id, log.status(), trouble)


async def put_voter(call: Call) -> Written:
    """PUT /v1/raft/voters/{id}."""
    member = next((one for one in call.service.members() if one.id == call.path.id), None)
    if member is None:
        raise ApiError(f"no member {call.path.id}", status=404, hint="sappers-deploy status")
    _require_leader(call)
    if member.vote_is_damaged:  # by gossip, which may say so for longer than the member itself
        raise ApiError(
            f"{member.name} is not ready for a vote: it has not put away what it voted with",
            status=503,
            hint=f"sappers-deploy raft reseed {member.name}",
        )
    address = f"{member.address}:{member.ports.raft}"
    return _written(await call.service.log.add_voter(member.id, address, CHANGE_SECONDS, call.by))


async def delete_voter(call: Call) -> Written:
    """DELETE /v1/raft/voters/{id}."""
    _require_leader(call)
    if call.path.id not in call.service.log.status().electorate:
        raise ApiError(f"{call.path.id} has no vote", status=404, hint="sappers-deploy raft peers")
    return _written(await call.service.log.remove_voter(call.path.id, CHANGE_SECONDS, call.by))


async def put_leader(call: Call) -> NoInput:
    """PUT /v1/raft/leader."""
    wanted: WantedLeader = call.body
    _require_leader(call)
    if wanted.member_id not in call.service.log.status().electorate:
        names = {one.id: one.name for one in call.service.members()}
        raise CommandRefused(
            f"{names.get(wanted.member_id, wanted.member_id)} has no vote",
            hint="sappers-deploy raft peers",
        )
    await call.service.log.transfer_leadership(wanted.member_id, CHANGE_SECONDS)
    return NoInput()


async def recover(call: Call) -> Written:
    """POST /v1/raft/recovery."""
    wanted: WantedRecovery = call.body
    mine = call.service.log.state().cluster_id
    if (wanted.member_id, wanted.cluster_id) != (call.service.me.id, mine):
        raise CommandRefused(
            f"this is {call.service.me.id} of cluster {mine}, not {wanted.member_id} of"
            f" {wanted.cluster_id}"
        )
    try:
        return _written(await call.service.log.recover_alone(RECOVERY_SECONDS, call.by))
    except ProposalRejected as error:  # nothing that another attempt changes
        raise CommandRefused(error.message, hint=error.hint) from error


def _require_leader(call: Call) -> None:
    status = call.service.log.status()
    if status.role is not RaftRole.LEADER:
        leader = call.service.leader()
        hint = f"ask {leader.name}, which leads" if leader else "nobody is known to lead"
        raise ProposalRejected("this member does not lead", hint=hint)


def _written(applied: Applied) -> Written:
    if applied.refused:
        raise CommandRefused(applied.refused)
    return Written(applied.index, applied.term)
