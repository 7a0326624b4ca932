"""The view that `status` shows, from the state, gossip and each member's own word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sappers.decisions.attention import attention
from sappers.decisions.forgetting import forgotten_by_the_log
from sappers.decisions.scheduler import memory_promised_mib
from sappers.model.cluster_state import ClusterState
from sappers.model.member import Member, MemberState
from sappers.model.observation import RaftStatus
from sappers.model.view import ClusterView, MemberHealth, MemberView


def build_view(
    *,
    cluster: str,
    me_id: str,
    state: ClusterState,
    age_seconds: float | None,
    raft: RaftStatus,
    gossip: Sequence[Member],
    healths: Mapping[str, MemberHealth],
) -> ClusterView:
    """Everything `status` shows; members that did not answer have no index."""
    forgotten = forgotten_by_the_log(state, gossip)
    gossip = [one for one in gossip if one.id not in forgotten]
    electorate = raft.electorate or state.electorate
    alive = {member.id for member in gossip if member.state is MemberState.ALIVE}
    voters_alive = sum(voter in alive for voter in electorate)
    known = {**dict(state.members), **{member.id: member for member in gossip}}
    members = tuple(
        _view_member(state, member, healths.get(member.id), raft)
        for member in sorted(known.values(), key=lambda member: (member.name, member.id))
    )
    return ClusterView(
        cluster=cluster,
        cluster_id=state.cluster_id,
        answered_by=me_id,
        leader_id=raft.leader_id,
        term=raft.term,
        commit_index=raft.commit_index,
        electorate=electorate,
        voters_alive=voters_alive,
        has_quorum=raft.leader_id is not None and 2 * voters_alive > len(electorate),
        hub_servers=state.hub_servers,
        members=members,
        workloads=tuple(workload for _, workload in sorted(state.workloads.items())),
        allocations=tuple(allocation for _, allocation in sorted(state.allocations.items())),
        attention=attention(state, gossip, raft, healths),
        repairs=tuple(sorted(state.repairs.values(), key=lambda one: (-one.opened_at, one.id))),
        images=tuple(sorted(state.images.values(), key=lambda one: (one.name, one.digest))),
        alerts=state.alerts,
        cordons=dict(state.cordons),
        age_seconds=age_seconds,
    )


def _view_member(
    state: ClusterState, member: Member, health: MemberHealth | None, raft: RaftStatus
) -> MemberView:
    role = health.role if health else "none"
    if member.id == raft.leader_id:
        role = "leader"
    suspicion = state.suspicion(member.id)
    live = [a for a in state.allocations_on(member.id) if not a.status.is_terminal]
    return MemberView(
        member=member,
        role=role,
        applied_index=health.applied_index if health else None,
        guests=len(live),
        memory_used_mib=memory_promised_mib(state, member.id),
        hub=health.hub if health else ("down" if member.id in state.hub_servers else "-"),
        images_whole=health.images_whole if health else None,
        consul=health.consul if health else "-",
        suspected_by=suspicion.sources if suspicion is not None else (),
    )
