"""What one agent does on its own host: its allocations against what it observes, as actions.

Invariant: a guest is touched only on the word of a committed entry. So nothing happens to guests
before this member's state has caught up with the cluster once since the agent started; a stale
state would stop guests that are wanted, and start some that moved away.
"""

from __future__ import annotations

from sappers.decisions.fencing import STOP_BEFORE_SECONDS
from sappers.model.actions import (
    Action,
    LaunchGuest,
    ReportStatus,
    RestartGuest,
    RunHubServer,
    StopGuest,
    StopHubServer,
)
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.member import Member
from sappers.model.observation import GuestProcess, ImageReading, MemberObservation
from sappers.model.policy import HealthSettings

RESTART_GRACE_SECONDS = 1.0


def reconcile_member(
    state: ClusterState,
    observed: MemberObservation,
    member_id: str,
    now: float,
    settings: HealthSettings,
) -> tuple[Action, ...]:
    """The actions that bring this host closer to what the state wants; empty when nothing is to do.

    Args:
        state: This member's state.
        observed: What this agent sees.
        member_id: This member.
        now: Monotonic seconds of this host's clock, as in the observations.
        settings: Deadlines and limits.
    """
    if not observed.caught_up:
        return _end_with_lease(state, observed, member_id)
    actions: list[Action] = [*_reconcile_hub(state, observed, member_id)]
    mine = {allocation.id: allocation for allocation in state.allocations_on(member_id)}
    actions.extend(_end_with_lease(state, observed, member_id))
    for allocation in mine.values():
        if _lease_is_over(allocation, observed):
            continue
        if allocation.wanted or allocation.status.is_terminal:
            actions.extend(_reconcile_allocation(allocation, observed, now, settings))
        else:
            actions.extend(_end(allocation, observed, _drain_seconds(state, allocation, settings)))
    actions.extend(
        StopGuest(guest_id, "no allocation owns it", grace_seconds=1.0)
        for guest_id in sorted(observed.guests)
        if guest_id not in mine
    )
    return tuple(actions)


def hub_peer(member: Member) -> str:
    """How a hub server is told apart: by id and by where it listens."""
    return f"{member.id}@{member.address}:{member.ports.hub_routes}"


def _reconcile_hub(
    state: ClusterState, observed: MemberObservation, member_id: str
) -> list[Action]:
    if member_id not in state.hub_servers:
        # One that was dead when the hub left it must know: it would come back with what it had.
        unaware = bool(state.hub_servers) and not observed.hub.server_left
        if observed.hub.server_running or unaware:
            return [StopHubServer("other members run it now")]
        return []
    servers = tuple(state.members[server] for server in state.hub_servers)
    wanted = tuple(hub_peer(server) for server in servers)
    refused = _ended_guests(state)
    hub = observed.hub
    runs_with = (hub.server_peers, hub.server_refuses, hub.server_access)
    if hub.server_running and runs_with == (wanted, refused, hub.access):
        return []
    return [RunHubServer(servers, state.hub_term, refused, hub.access)]


def _ended_guests(state: ClusterState) -> tuple[str, ...]:
    """Allocations that are over: wherever their guests still are, the hub is theirs no more.

    Those that the state has forgotten ended longer ago than credentials last.
    """
    return tuple(sorted(each.id for each in state.allocations.values() if each.status.is_terminal))


def _reconcile_allocation(
    allocation: Allocation, observed: MemberObservation, now: float, settings: HealthSettings
) -> list[Action]:
    guest = observed.guests.get(allocation.id)
    if allocation.status.is_terminal:
        return [StopGuest(allocation.id, f"it is {allocation.status}")] if guest else []
    image = observed.images.get(allocation.image.digest)
    if guest is None and image is not None and not image.whole:
        return _await_image(allocation, image, observed, now, settings)
    if failure := observed.failed_launches.get(allocation.id):
        return _after_failure(allocation, observed, now, settings, failure)
    if guest is None:
        # Launched once, whatever is committed: nobody may have heard of what came of it.
        never = allocation.id not in observed.restarts
        if never and allocation.status is AllocationStatus.PENDING:
            return [LaunchGuest(allocation, attempt=0)]
        return _after_failure(allocation, observed, now, settings, "its guest is gone")
    if not guest.running:
        return _after_failure(allocation, observed, now, settings, guest.reason)
    return _judge_running(allocation, guest, observed, now, settings)


def _lease_is_over(allocation: Allocation, observed: MemberObservation) -> bool:
    """Whether nothing may be done with an exclusive guest but end it."""
    return (
        allocation.is_exclusive
        and not allocation.status.is_terminal
        and allocation.wanted
        and observed.leases.get(allocation.id, 0.0) <= STOP_BEFORE_SECONDS
    )


def _end_with_lease(
    state: ClusterState, observed: MemberObservation, member_id: str
) -> tuple[StopGuest, ...]:
    """Stop exclusive guests in order before their watchdogs do it by force.

    A state that is behind serves, too: without a lease there is nothing to lose.
    """
    return tuple(
        StopGuest(allocation.id, "its member has not heard of the quorum", grace_seconds=1.0)
        for allocation in state.allocations_on(member_id)
        if _lease_is_over(allocation, observed) and allocation.id in observed.guests
    )


def _end(allocation: Allocation, observed: MemberObservation, drain_seconds: float) -> list[Action]:
    """Stop what is wanted no more, and say so once it is gone, and nobody is about to start it."""
    if allocation.id in observed.guests:
        reason = "it is wanted no more"
        return [StopGuest(allocation.id, reason, drain_seconds=drain_seconds)]
    if allocation.id in observed.under_way:
        return []
    return [_report(allocation, AllocationStatus.STOPPED, "stopped as asked")]


def _drain_seconds(state: ClusterState, allocation: Allocation, settings: HealthSettings) -> float:
    """What is committed as unwanted is routed to no more; only what was routed to has requests."""
    routed = allocation.guest_port is not None and allocation.status is AllocationStatus.HEALTHY
    gateways = any(member.ports.gateway for member in state.members.values())
    return settings.drain_seconds if routed and gateways else 0.0


def _await_image(
    allocation: Allocation,
    image: ImageReading,
    observed: MemberObservation,
    now: float,
    settings: HealthSettings,
) -> list[Action]:
    """An image on its way is no failure of the guest, however long it takes."""
    if allocation.id in observed.under_way:
        return []
    if image.hopeless:
        return _after_failure(allocation, observed, now, settings, image.reason)
    return _reports(allocation, AllocationStatus.PENDING, image.reason, observed)


def _judge_running(
    allocation: Allocation,
    guest: GuestProcess,
    observed: MemberObservation,
    now: float,
    settings: HealthSettings,
) -> list[Action]:
    """Only a push makes a guest healthy, and a push that stops makes it unhealthy."""
    started_at = guest.started_at if guest.started_at is not None else now
    push = observed.pushes.get(allocation.id)
    if push is None or push.received_at < started_at:
        how = guest.reason or "booting"
        return _judge_silent_boot(allocation, started_at, how, observed, now, settings)
    limit = 2 * settings.push_deadline_seconds
    if now - push.received_at > limit:
        reason = f"no health push for over {limit:.0f} s"
        return _after_failure(allocation, observed, now, settings, reason)
    if now - push.received_at > settings.push_deadline_seconds:
        reason = f"no health push for over {settings.push_deadline_seconds:.0f} s"
        return _reports(allocation, AllocationStatus.UNHEALTHY, reason, observed)
    if push.healthy:
        # A clone may be well before anybody has said that it starts: how it did is told here too,
        # and told once. So it waits for the launch that is about to say it.
        if not guest.reason and allocation.id in observed.under_way:
            return []
        reason = "; ".join(filter(None, (push.reason or "its sidecar says so", guest.reason)))
        return _reports(allocation, AllocationStatus.HEALTHY, reason, observed)
    if push.healthy_at is None:
        if now - started_at > settings.boot_deadline_seconds:
            return _after_failure(allocation, observed, now, settings, push.reason)
        return _reports(allocation, AllocationStatus.STARTING, push.reason, observed)
    if now - push.healthy_at > limit:
        return _after_failure(allocation, observed, now, settings, push.reason)
    return _reports(allocation, AllocationStatus.UNHEALTHY, push.reason, observed)


def _judge_silent_boot(
    allocation: Allocation,
    started_at: float,
    how: str,
    observed: MemberObservation,
    now: float,
    settings: HealthSettings,
) -> list[Action]:
    """No push of this boot so far, as far as this agent has heard."""
    # An agent that restarted has heard nothing of a guest that runs for long; it waits one
    # deadline from its own start before it judges.
    since = max(started_at, observed.agent_started_at)
    if now - since > settings.boot_deadline_seconds:
        reason = f"no health push within {settings.boot_deadline_seconds:.0f} s"
        return _after_failure(allocation, observed, now, settings, reason)
    if allocation.status in (AllocationStatus.HEALTHY, AllocationStatus.UNHEALTHY):
        return []  # the last committed word stands until a deadline passes
    return _reports(allocation, AllocationStatus.STARTING, how, observed)


def _after_failure(
    allocation: Allocation,
    observed: MemberObservation,
    now: float,
    settings: HealthSettings,
    reason: str,
) -> list[Action]:
    """Restart here with growing waits; after too many, fail, and the leader picks a member.

    A guest that is just being restarted is not there yet: that is no failure of the restart.
    """
    if allocation.id in observed.under_way:
        return []
    count, last_at = _restarts(allocation, observed, now, settings)
    # A healer is never started again: its credential was for one time.
    if count >= (0 if allocation.repair else settings.restarts_max):
        actions: list[Action] = []
        if allocation.id in observed.guests:
            actions.append(StopGuest(allocation.id, reason, grace_seconds=0.0))
        why = reason if allocation.repair else f"{reason}, after {count} restarts"
        return [*actions, _report(allocation, AllocationStatus.FAILED, why, count)]
    delay = min(settings.restart_delay_seconds * 2.0**count, settings.restart_delay_max_seconds)
    if allocation.id in observed.restarts and now - last_at < delay:
        return _reports(allocation, AllocationStatus.UNHEALTHY, reason, observed)
    return [
        *_reports(allocation, AllocationStatus.UNHEALTHY, reason, observed),
        RestartGuest(
            allocation,
            attempt=count + 1,
            reason=reason,
            grace_seconds=_grace_seconds(allocation, observed, now, settings),
        ),
    ]


def _grace_seconds(
    allocation: Allocation, observed: MemberObservation, now: float, settings: HealthSettings
) -> float:
    """Only who was heard of late can be asked to end: one that hangs answers neither."""
    push = observed.pushes.get(allocation.id)
    answers = push is not None and now - push.received_at <= settings.push_deadline_seconds
    return RESTART_GRACE_SECONDS if answers else 0.0


def _restarts(
    allocation: Allocation, observed: MemberObservation, now: float, settings: HealthSettings
) -> tuple[int, float]:
    """Restarts that count, and when the last one was: long health clears them."""
    count, last_at = observed.restarts.get(allocation.id, (allocation.restarts, now))
    push = observed.pushes.get(allocation.id)
    if push and push.healthy_at and push.healthy_at - last_at > settings.restart_reset_seconds:
        return 0, last_at
    return count, last_at


def _reports(
    allocation: Allocation, status: AllocationStatus, reason: str, observed: MemberObservation
) -> list[Action]:
    """A report when the committed reading differs; a healthy guest's wording does not matter."""
    count, _ = observed.restarts.get(allocation.id, (allocation.restarts, 0.0))
    same = allocation.status is status and allocation.restarts == count
    if same and (status is AllocationStatus.HEALTHY or allocation.reason == reason):
        return []
    return [_report(allocation, status, reason, count)]


def _report(
    allocation: Allocation, status: AllocationStatus, reason: str, restarts: int | None = None
) -> ReportStatus:
    return ReportStatus(
        allocation.id,
        status,
        reason,
        allocation.restarts if restarts is None else restarts,
    )
