"""What a person must do: the sentences that `status` shows in red. Pure.

What the cluster mends by itself is not among them: a guest that is being restarted, a copy that
is about to be placed elsewhere, a member that is only suspect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sappers.decisions.healing import REPAIRS_MAX, latest_repairs, repairs_exhausted
from sappers.decisions.scheduler import NoPlacement, place
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.member import Member, MemberState
from sappers.model.observation import RaftStatus
from sappers.model.refusal import RefusalKind
from sappers.model.repair import RepairStatus
from sappers.model.view import MemberHealth
from sappers.model.workload import Workload

# One restart may be bad luck; from the second on the guest itself is to be looked at.
RESTARTS_WORTH_A_LOOK = 2
REFUSALS_SHOWN = 8
# Nobody here knows how an agent was started that does not answer.
_LOG = "the agent's log (journalctl -u sappers, or where one by hand writes it)"
_REFUSED: Mapping[str, str] = {
    RefusalKind.RATE: "messages over its rate",
    RefusalKind.SIZE: "messages that are too long",
    RefusalKind.UNREADABLE: "messages that make no sense",
    RefusalKind.FORGED: "forged health pushes",
    RefusalKind.HUB: "things that its hub credentials do not allow",
    RefusalKind.SUBJECT: "calls for what is not its own",
    RefusalKind.SOCKET: "calls that its sidecar refused",
    RefusalKind.CONTROL: "floods of its control port",
    RefusalKind.ALERT: "alerts too many",
    RefusalKind.CREDENTIAL: "uses of a credential that is none any more",
    RefusalKind.HANDSHAKE: "connections without a certificate",
    RefusalKind.CROWD: "connections too many",
}
_BY_ADDRESS = {RefusalKind.HANDSHAKE, RefusalKind.CROWD}
# Scanners come by, and a message may cross the end of its guest: fewer are not worth a look.
_WORTH_A_LOOK: Mapping[str, int] = {
    RefusalKind.HANDSHAKE: 20,
    RefusalKind.CROWD: 50,
    RefusalKind.RATE: 10,
    RefusalKind.FORGED: 3,
    RefusalKind.SOCKET: 100,  # an application may err
}


def attention(
    state: ClusterState,
    gossip: Sequence[Member],
    raft: RaftStatus,
    healths: Mapping[str, MemberHealth],
) -> tuple[str, ...]:
    """What a person must do something about, worst first; each says what to do.

    Args:
        state: The answering member's replica.
        gossip: Every member that gossip knows, with state.
        raft: How the log stands, seen from the answering member.
        healths: What members said of themselves just now, by id; those that did not answer lack.
    """
    known = {**dict(state.members), **{member.id: member for member in gossip}}
    voters = raft.electorate or state.electorate
    return (
        *_quorum(known, voters, raft, healths),
        *_members(state, known, voters, healths),
        *_hub(state, known, healths),
        *_damaged(known, healths),
        *_down(known, healths),
        *_halted(state, gossip, healths),
        *_images(known, healths),
        *_consul(known, healths),
        *_gateways(known, healths),
        *_meshes(known, healths),
        *_streams(healths),
        *_workloads(state, known),
        *_refusals(known, healths),
        *_versions(known.values()),
    )


def _damaged(known: Mapping[str, Member], healths: Mapping[str, MemberHealth]) -> Iterable[str]:
    for member_id, health in sorted(healths.items()):
        if health.vote_trouble:
            name = _names(known, [member_id])
            yield (
                f"{name} does not vote: {health.vote_trouble}; "
                f"let it begin again from its peers: sappers-deploy raft reseed {name}"
            )


def _down(known: Mapping[str, Member], healths: Mapping[str, MemberHealth]) -> Iterable[str]:
    for member_id, health in sorted(healths.items()):
        if health.raft_trouble:
            yield (
                f"{_names(known, [member_id])} has a vote, and its raft process does not run: "
                f"{health.raft_trouble}; it is started again and again: see {_LOG} there, "
                "and its disk"
            )


def _halted(
    state: ClusterState, gossip: Sequence[Member], healths: Mapping[str, MemberHealth]
) -> Iterable[str]:
    """Who applies nothing more; the oldest versions do not even know that they should not."""
    for member in sorted(gossip, key=lambda member: (member.name, member.id)):
        trouble = healths[member.id].log_trouble if member.id in healths else ""
        if member.lives and not trouble and member.log_format < state.format:
            trouble = f"the log has format {state.format}, and it knows {member.log_format} at most"
        if trouble:
            yield (
                f"{member.name} ({member.version}) needs a newer version and takes no part: "
                f"{trouble}; upgrade it: sappers-deploy bootstrap"
            )


def _quorum(
    known: Mapping[str, Member],
    voters: Sequence[str],
    raft: RaftStatus,
    healths: Mapping[str, MemberHealth],
) -> Iterable[str]:
    """While somebody leads, gossip is believed; else only a voter that answers counts."""
    if not voters:
        yield (
            "the cluster is not founded yet: start as many agents as its bootstrap count says, "
            f"and see {_LOG} if they do not meet"
        )
        return
    missing = [
        voter
        for voter in voters
        if not _is_here(known.get(voter)) or (raft.leader_id is None and voter not in healths)
    ]
    here = len(voters) - len(missing)
    if 2 * here <= len(voters):
        yield (
            f"quorum is lost: {here} of {len(voters)} voters are here, {len(voters) // 2 + 1} "
            f"are needed; start sappers on {_names(known, missing)}"
        )
    elif raft.leader_id is None:
        yield (
            f"nobody leads, though {here} of {len(voters)} voters are here: if it lasts, see "
            f"{_LOG} on {_names(known, [v for v in voters if v not in missing])}"
        )


def _members(
    state: ClusterState,
    known: Mapping[str, Member],
    voters: Sequence[str],
    healths: Mapping[str, MemberHealth],
) -> Iterable[str]:
    living_names = {member.name for member in known.values() if _is_here(member)}
    for member in sorted(known.values(), key=lambda member: (member.name, member.id)):
        votes = member.id in voters
        if member.state is MemberState.DEAD and (votes or member.name not in living_names):
            if state.open_repair(member.id) is not None:
                continue
            what = "a voter, " if votes else ""
            where = f"{what}{member.address}"
            vain = _repaired_in_vain(state, member.id)
            yield f"{member.name} ({where}) is dead{vain}: start the host, or sappers on it"
        elif member.state is MemberState.LEFT and votes:
            yield f"{member.name} left but still has a vote: start sappers on it again"
        elif member.state is MemberState.ALIVE and member.id not in healths:
            yield (
                f"{member.name} is alive but does not answer at {member.address} port "
                f"{member.ports.http}: see {_LOG} on it, and its firewall"
            )


def _repaired_in_vain(state: ClusterState, member_id: str) -> str:
    """What came of the repair of this death, as a clause; empty when there was none."""
    repair, member = latest_repairs(state).get(member_id), state.members.get(member_id)
    if repair is None or member is None or member.state is not MemberState.DEAD:
        return ""
    if repair.opened_at < member.state_since:
        if repairs_exhausted(state, member, member.state_since):
            return f" again after {REPAIRS_MAX} repairs"
        return ""
    if repair.status is RepairStatus.MOVED:
        return f", and no healer can reach it ({repair.trouble})"
    return f", and cannot be repaired ({repair.trouble})"


def _hub(
    state: ClusterState, known: Mapping[str, Member], healths: Mapping[str, MemberHealth]
) -> Iterable[str]:
    down = [server for server in state.hub_servers if _hub_down(healths.get(server))]
    if down:
        yield (
            f"the hub server is down on {_names(known, down)}: see {_LOG} there; "
            "the agent starts it again"
        )
    cut_off = [
        member_id
        for member_id, health in healths.items()
        if state.hub_servers and not health.hub_connected and member_id not in down
    ]
    if cut_off:
        yield (
            f"no connection to the hub from {_names(known, cut_off)}: is port 4222 of "
            f"{_names(known, state.hub_servers)} reachable from there?"
        )


def _images(known: Mapping[str, Member], healths: Mapping[str, MemberHealth]) -> Iterable[str]:
    """One sentence for each reason, however many members have it."""
    suffering: dict[str, list[str]] = {}
    for member_id, health in healths.items():
        if health.image_trouble:
            suffering.setdefault(health.image_trouble, []).append(member_id)
    for trouble, members in sorted(suffering.items()):
        yield (
            f"{_names(known, members)} cannot get {trouble}; free some room there, or "
            "sappers-deploy image push it again"
        )


def _consul(known: Mapping[str, Member], healths: Mapping[str, MemberHealth]) -> Iterable[str]:
    """One sentence for each reason; guests and cluster go on without it."""
    suffering: dict[str, list[str]] = {}
    for member_id, health in healths.items():
        if health.consul_trouble:
            suffering.setdefault(health.consul_trouble, []).append(member_id)
    for trouble, members in sorted(suffering.items()):
        yield (
            f"Consul may not know how guests of {_names(known, members)} are: {trouble}; see "
            "journalctl -u sappers-consul there, or its log where bootstrap did not install it"
        )


def _gateways(known: Mapping[str, Member], healths: Mapping[str, MemberHealth]) -> Iterable[str]:
    for member_id, health in sorted(healths.items()):
        if health.gateway_trouble:
            yield f"the gateway on {_names(known, [member_id])}: {health.gateway_trouble}"


def _meshes(known: Mapping[str, Member], healths: Mapping[str, MemberHealth]) -> Iterable[str]:
    for member_id, health in sorted(healths.items()):
        if health.mesh_trouble and not health.consul_trouble:
            yield f"the mesh on {_names(known, [member_id])}: {health.mesh_trouble}"


def _streams(healths: Mapping[str, MemberHealth]) -> Iterable[str]:
    """One sentence for each reason; the workloads themselves run."""
    suffering: dict[str, list[str]] = {}
    for health in healths.values():
        for workload, trouble in health.stream_trouble.items():
            suffering.setdefault(trouble, []).append(workload)
    for trouble, workloads in sorted(suffering.items()):
        whose = "any workload" if "" in workloads else _listed(workloads)
        yield f"no durable messages are kept for {whose}: {trouble}"


def _workloads(state: ClusterState, known: Mapping[str, Member]) -> Iterable[str]:
    for _, workload in sorted(state.workloads.items()):
        copies = [
            allocation
            for allocation in state.allocations_of(workload.name)
            if allocation.revision == workload.revision and allocation.wanted
        ]
        live = [copy for copy in copies if not copy.status.is_terminal]
        failed = [copy for copy in copies if copy.status is AllocationStatus.FAILED]
        if len(live) < workload.count:
            yield from _missing_copies(state, known, workload, len(live), failed)
        for copy in live:
            if copy.restarts >= RESTARTS_WORTH_A_LOOK and (
                copy.status is not AllocationStatus.HEALTHY
            ):
                yield (
                    f"{copy.id} on {_names(known, [copy.member_id])} was restarted {copy.restarts} "
                    f"times and is {copy.status}: {copy.reason}; see sappers-deploy logs {copy.id}"
                )


def _missing_copies(
    state: ClusterState,
    known: Mapping[str, Member],
    workload: Workload,
    live: int,
    failed: Sequence[Allocation],
) -> Iterable[str]:
    running = f"{live} of {workload.count} copies of {workload.name} run"
    chosen = place(state, workload)
    if isinstance(chosen, NoPlacement):
        yield (
            f"{running}, no room for more: {chosen.reason}; add a host, or run fewer or "
            "smaller copies"
        )
    elif failed:
        last = max(failed, key=lambda copy: (copy.changed_at, copy.id))
        yield (
            f"{running}; {last.id} failed on {_names(known, [last.member_id])}: {last.reason}; "
            f"see sappers-deploy logs {last.id}"
        )


def _refusals(known: Mapping[str, Member], healths: Mapping[str, MemberHealth]) -> Iterable[str]:
    """One sentence for each guest, or address, that misbehaves."""
    tries: dict[str, dict[str, int]] = {}
    where: dict[str, set[str]] = {}
    for member_id, health in healths.items():
        for refusal in health.refusals:
            if refusal.count < _WORTH_A_LOOK.get(refusal.kind, 1):
                continue
            counts = tries.setdefault(refusal.subject, {})
            counts[refusal.kind] = counts.get(refusal.kind, 0) + refusal.count
            where.setdefault(refusal.subject, set()).add(member_id)
    loudest = sorted(tries.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    for subject, counts in loudest[:REFUSALS_SHOWN]:
        told = ", ".join(
            f"{count:,} {_REFUSED.get(kind, kind)}"
            for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        )
        stranger = counts.keys() <= _BY_ADDRESS
        who = f"{subject} dials the agents" if stranger else f"guest {subject} misbehaves"
        todo = "find who does" if stranger else f"see sappers-deploy logs {subject}, or stop it"
        yield f"{who}: {told} refused on {_names(known, where[subject])}; {todo}"
    if (more := len(loudest) - REFUSALS_SHOWN) > 0:
        yield f"{more} more misbehave: see refusals in the answers of /v1/health"


def _versions(members: Iterable[Member]) -> Iterable[str]:
    by_version: dict[str, list[str]] = {}
    for member in members:
        if _is_here(member):
            by_version.setdefault(member.version, []).append(member.name)
    if len(by_version) > 1:
        mix = ", ".join(f"{v} on {_listed(names)}" for v, names in sorted(by_version.items()))
        yield f"agents differ in version: {mix}; sappers-deploy bootstrap brings them to one"


def _is_here(member: Member | None) -> bool:
    return member is not None and member.lives


def _hub_down(health: MemberHealth | None) -> bool:
    """Whether a member says so itself; one that does not answer is told of already."""
    return health is not None and health.hub != "running"


def _names(known: Mapping[str, Member], ids: Iterable[str]) -> str:
    return _listed([known[one].name if one in known else one for one in ids])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names))
