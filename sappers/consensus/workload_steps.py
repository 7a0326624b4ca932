"""The steps of the state machine for what operators, and the leader, want to run. Pure."""

from __future__ import annotations

import msgspec

from sappers.consensus.image_steps import require_image
from sappers.consensus.restore_steps import forget_restored
from sappers.consensus.step import Happened, Step
from sappers.errors import CommandRefused
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import PutSystemWorkload, PutWorkload, StopWorkload
from sappers.model.workload import Workload


def want_workload(state: ClusterState, command: PutWorkload | PutSystemWorkload) -> Step:
    """Want a workload; what an operator stopped, or runs under its name, is the operator's alone.

    Raises:
        CommandRefused: It is, or the cluster lacks the image.
    """
    workload = command.workload
    if isinstance(command, PutWorkload):
        state, happened = _put_workload(_allowed_again(state, workload.name), workload)
        return forget_restored(state) if happened else state, happened
    before = state.workloads.get(workload.name)
    if workload.name in state.stopped_by_hand:
        raise CommandRefused(f"an operator stopped {workload.name}")
    if before is not None and before.role != workload.role:
        raise CommandRefused(f"{workload.name} is an operator's own workload")
    return _put_workload(state, workload)


def stop_workload(state: ClusterState, command: StopWorkload) -> Step:
    """Its guests are stopped by the leader, one by one.

    Raises:
        CommandRefused: There is no such workload.
    """
    name = command.name
    workload = state.workloads.get(name)
    if workload is None:
        raise CommandRefused(f"no workload {name}")
    if workload.role != "application":
        stopped = tuple(sorted({*state.stopped_by_hand, name}))
        state = msgspec.structs.replace(state, stopped_by_hand=stopped)
    state = forget_restored(state)
    return (
        msgspec.structs.replace(state, workloads=state.workloads.delete(name)),
        (Happened("workload.stopped", name, f"{name} is wanted no more", follows=()),),
    )


def _put_workload(state: ClusterState, workload: Workload) -> Step:
    before = state.workloads.get(workload.name)
    revision = before.revision if before else 0
    current = msgspec.structs.replace(workload, revision=revision)
    if before == current:
        return state, ()
    require_image(state, workload)
    if before is None or not _same_guests(before, current):
        current = msgspec.structs.replace(workload, revision=state.index)
    kind, verb = ("workload.changed", "changed") if before else ("workload.created", "created")
    text = f"{workload.name} {verb}: {workload.count} × {workload.image.name}"
    return (
        msgspec.structs.replace(state, workloads=state.workloads.set(workload.name, current)),
        (Happened(kind, workload.name, text, follows=()),),
    )


def _allowed_again(state: ClusterState, name: str) -> ClusterState:
    """The state once an operator has asked for a workload."""
    if name not in state.stopped_by_hand:
        return state
    others = tuple(one for one in state.stopped_by_hand if one != name)
    return msgspec.structs.replace(state, stopped_by_hand=others)


def _same_guests(before: Workload, after: Workload) -> bool:
    """Whether copies that run may go on: there are to be more or fewer, or found by another name.

    What guests may call (`links`) is in the credentials that they started with: it replaces them.
    """
    moved = msgspec.structs.replace(before, count=after.count, service=after.service)
    return moved == after
