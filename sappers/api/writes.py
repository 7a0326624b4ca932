"""Calls that change the replicated state. Any member takes them; the service finds the leader."""

from __future__ import annotations

import msgspec

from sappers.api.call import PROPOSE_TIMEOUT_SECONDS, Call
from sappers.api.wire import (
    NoInput,
    SnapshotTaken,
    WantedCordon,
    WantedLogLevel,
    WantedRepairKey,
    WantedWorkload,
    Written,
)
from sappers.errors import ApiError, CommandRefused, IdentityError
from sappers.model.commands import (
    Command,
    CordonMember,
    ForgetMember,
    Proposal,
    PutWorkload,
    RevokeMember,
    StopWorkload,
    UncordonMember,
)
from sappers.model.repair import RepairKey
from sappers.model.repair_commands import PutRepairKey
from sappers.model.view import Genesis
from sappers.ports import Applied


async def put_workload(call: Call) -> Written:
    """PUT /v1/workloads/{name}."""
    wanted: WantedWorkload = call.body
    _require_free_port(call, wanted)
    applied = await _propose(call, PutWorkload(wanted.named(call.path.name)))
    if applied.refused:
        raise _no_image(call, wanted) or CommandRefused(applied.refused)
    return Written(applied.index, applied.term)


async def delete_workload(call: Call) -> Written:
    """DELETE /v1/workloads/{name}."""
    applied = await _propose(call, StopWorkload(call.path.name))
    if applied.refused:  # the state machine's only reason is that there is no such workload
        hint = "sappers-deploy ps lists what runs"
        raise ApiError(applied.refused, status=404, hint=hint)
    return Written(applied.index, applied.term)


async def propose_here(call: Call) -> Applied:
    """POST /v1/proposals: not forwarded again, so that members cannot send it round in circles."""
    proposal: Proposal = call.body
    caller = call.peer.node_id
    # What an operator wants was seen by the member that brings it, which is named beside it.
    own = proposal.by in ("", call.by) or proposal.by.startswith("operator/")
    if proposal.proposer != caller or not own:
        whose = f"{proposal.by or 'nobody'} by way of {proposal.proposer}"
        raise ApiError(f"{caller} cannot propose as {whose}", status=403)
    if not proposal.by:  # a member of an earlier version, which does not say
        proposal = msgspec.structs.replace(proposal, by=call.by)
    return await call.service.log.propose(proposal, PROPOSE_TIMEOUT_SECONDS)


async def put_repair_key(call: Call) -> Written:
    """PUT /v1/repair-key."""
    wanted: WantedRepairKey = call.body
    key = RepairKey(
        wanted.public, wanted.sealed, wanted.image_keys, wanted.signature, wanted.number
    )
    try:
        # Not the operator's to say: who can have healers log in as they please is root there.
        call.service.check_repair_access(key, wanted.logins)
    except IdentityError as error:
        raise CommandRefused(error.message, hint=error.hint) from error
    applied = await _propose(call, PutRepairKey(key, wanted.logins))
    if applied.refused:  # the state machine's only reason is that something newer is known
        raise CommandRefused(applied.refused, hint="run it again: it signs with the next number")
    return Written(applied.index, applied.term)


async def put_cordon(call: Call) -> Written:
    """PUT /v1/members/{id}/cordon."""
    wanted: WantedCordon = call.body
    return await _of_member(call, CordonMember(call.path.id, wanted.drain))


async def revoke(call: Call) -> Written:
    """PUT /v1/members/{id}/revocation.

    The others hear a revoked voter no more, and would lack it where another one is missing. A vote
    is taken only while those that remain are a quorum, so that goes first.
    """
    member_id = call.path.id
    if member_id in call.service.log.state().electorate:
        raise CommandRefused(
            f"{member_id} has a vote",
            hint=f"ask the leader first: DELETE /v1/raft/voters/{member_id}",
        )
    return await _of_member(call, RevokeMember(member_id))


async def forget_member(call: Call) -> Written:
    """DELETE /v1/members/{id}."""
    applied = await _propose(call, ForgetMember(call.path.id))
    if applied.refused and call.path.id in call.service.log.state().members:
        hint = "it must have left, or be dead: stop its agent for good first"
        raise CommandRefused(applied.refused, hint=hint)
    return _written_of_member(applied)


async def delete_cordon(call: Call) -> Written:
    """DELETE /v1/members/{id}/cordon."""
    return await _of_member(call, UncordonMember(call.path.id))


async def _of_member(call: Call, command: Command) -> Written:
    return _written_of_member(await _propose(call, command))


def _written_of_member(applied: Applied) -> Written:
    if applied.refused:  # the state machine's only reason is that there is no such member
        hint = "sappers-deploy status lists them"
        raise ApiError(applied.refused, status=404, hint=hint)
    return Written(applied.index, applied.term)


async def put_genesis(call: Call) -> NoInput:
    """PUT /v1/genesis."""
    genesis: Genesis = call.body
    await call.service.accept_genesis(genesis)
    return NoInput()


async def take_snapshot(call: Call) -> SnapshotTaken:
    """POST /v1/snapshot."""
    _require_own(call)
    return SnapshotTaken(await call.service.log.trigger_snapshot())


async def put_gossip_keys(call: Call) -> NoInput:
    """PUT /v1/gossip-keys."""
    await call.service.put_gossip_keys(call.body)
    return NoInput()


async def put_log_level(call: Call) -> NoInput:
    """PUT /v1/log-level."""
    _require_own(call)
    wanted: WantedLogLevel = call.body
    call.service.set_log_level(wanted.level)
    return NoInput()


def _require_own(call: Call) -> None:
    """What concerns one member alone is for operators and for whoever is root on its host."""
    if call.peer.role == "agent" and call.peer.node_id != call.service.me.id:
        raise ApiError("a member may ask this of itself only", status=403)


def _require_free_port(call: Call, wanted: WantedWorkload) -> None:
    """Refuse a port that was asked for and that the agents need: it could never be published."""
    takers = [m.name for m in call.service.members() if wanted.host_port in m.ports.taken()]
    if wanted.host_port is not None and takers:
        raise ApiError(
            f"$.host_port: port {wanted.host_port} is the agents' own on {', '.join(takers)}",
            status=400,
            hint="publish the guest at another port",
        )


def _no_image(call: Call, wanted: WantedWorkload) -> CommandRefused | None:
    """Better words than the state machine's where the image is what lacks."""
    if wanted.image.digest in call.service.log.state().images:
        return None
    return CommandRefused(
        f"$.image: the cluster has no image {wanted.image.name} ({wanted.image.digest[:12]})",
        hint=f"sappers-deploy image push {wanted.image.name}",
    )


async def _propose(call: Call, command: Command) -> Applied:
    return await call.service.propose(call.proposal(command), PROPOSE_TIMEOUT_SECONDS)
