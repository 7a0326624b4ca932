"""What the state machine does with repairs. Pure.

Invariant: a member has at most one repair that is not over, and a repair at most one healer. A
healer's credential exists only after a committed claim, of the attempt that is assigned and before
its deadline; what any other attempt says is refused. What the repair authority has said is replaced
by what it said later alone: each statement has a number.
"""

from __future__ import annotations

import msgspec

from sappers.consensus.step import Happened, Step
from sappers.errors import CommandRefused
from sappers.model.cluster_state import REPAIRS_KEPT, ClusterState
from sappers.model.member import Member, MemberState
from sappers.model.repair import HEALER, NUMBERS_APART, Repair, RepairStatus
from sappers.model.repair_commands import (
    AssignHealer,
    ClaimRepair,
    CloseRepair,
    CountRefusedRepair,
    FailAttempt,
    OpenRepair,
    PutRepairKey,
    RepairCommand,
    ReportRepairStep,
)

STEPS_MAX = 40  # of one attempt: a healer that says more is broken, or is none


def apply_repair_command(state: ClusterState, command: RepairCommand, time: float) -> Step:
    """One command about repairs.

    Raises:
        CommandRefused: It is not the repair's turn for it.
    """
    match command:
        case PutRepairKey():
            return _put_key(state, command)
        case OpenRepair():
            return _open(state, command, time)
        case AssignHealer():
            return _assign(state, command, time)
        case ClaimRepair():
            return _claim(state, command, time)
        case ReportRepairStep():
            return _report_step(state, command, time)
        case CountRefusedRepair():
            return _count_refused(state, command)
        case FailAttempt():
            return _fail_attempt(state, command, time)
        case CloseRepair():
            return _close(state, command, time)


def _put_key(state: ClusterState, command: PutRepairKey) -> Step:
    """Keep the key; logins of members that are not named stay."""
    if not command.key.public.strip():
        raise CommandRefused("the repair key has no public part")
    logins = state.repair_logins
    for login in command.logins:
        was = logins.get(login.member_id)
        what = f"how healers log in to {login.member_id}"
        _require_newer(what, was.number if was else 0, login.number, same=was == login)
        logins = logins.set(login.member_id, login)
    before, key = state.repair_key, command.key
    known = before is not None and before.public == key.public
    same = known and before is not None and before.image_keys == key.image_keys
    _require_newer("the repair key", before.number if before else 0, key.number, same=same)
    if same and before is not None and before.number == key.number:
        key = before  # it comes sealed anew, which changes nothing
    if key == before and logins == state.repair_logins:
        return state, ()
    changed = msgspec.structs.replace(state, repair_key=key, repair_logins=logins)
    if known:
        return changed, ()
    text = f"healers log in with certificates of {command.key.public.split()[-1][-12:]}"
    return changed, (Happened("repair-key.changed", state.cluster_id, text, follows=()),)


def _require_newer(what: str, known: int, given: int, *, same: bool) -> None:
    """What was signed once does not come back; where no numbers were given yet, it may."""
    if given == known and (same or known == 0):
        return
    if not known < given < known + NUMBERS_APART:
        raise CommandRefused(f"{what}: number {given} does not follow {known}")


def _open(state: ClusterState, command: OpenRepair, time: float) -> Step:
    if command.repair_id in state.repairs:
        return state, ()
    member = state.members.get(command.member_id)
    if member is None or not _is_in_trouble(state, member):
        raise CommandRefused(f"member {command.member_id} is neither dead nor suspected")
    if (other := state.open_repair(member.id)) is not None:
        raise CommandRefused(f"{other.id} repairs {member.name} already")
    repair = Repair(
        command.repair_id,
        member.id,
        command.reason,
        opened_at=time,
        changed_at=time,
        sources=command.sources,
    )
    return (
        _with(state, repair),
        (
            Happened(
                "repair.opened",
                repair.id,
                f"{member.name} is to be repaired: {repair.reason}",
                follows=(f"member/{member.id}",),
            ),
        ),
    )


def _is_in_trouble(state: ClusterState, member: Member) -> bool:
    suspected = state.suspicion(member.id) is not None
    return member.state is MemberState.DEAD or (suspected and member.state is not MemberState.LEFT)


def _assign(state: ClusterState, command: AssignHealer, time: float) -> Step:
    """Place a healer, if it is the next one's turn: the only way in which one comes to be."""
    repair, allocation = _known(state, command.repair_id), command.allocation
    if repair.attempt == command.attempt and repair.allocation_id == allocation.id:
        return state, ()
    if repair.status is not RepairStatus.OPEN or command.attempt != repair.attempt + 1:
        raise CommandRefused(
            f"{repair.id} is {repair.status} at attempt {repair.attempt}, not open for attempt "
            f"{command.attempt}"
        )
    if at_work := state.healers_at_work(repair, time):
        names = ", ".join(each.id for each in at_work)
        raise CommandRefused(f"{repair.id}: {names} may still be at work")
    if (allocation.repair, allocation.workload) != (repair.id, HEALER):
        raise CommandRefused(f"{allocation.id} is no healer of {repair.id}")
    if allocation.id in state.allocations or allocation.image.digest not in state.images:
        raise CommandRefused(f"{allocation.id} is there already, or its image is not")
    home = state.members.get(allocation.member_id)
    if home is None or home.state is not MemberState.ALIVE or home.id == repair.member_id:
        raise CommandRefused(f"{allocation.id}: member {allocation.member_id} cannot run it")
    changed = msgspec.structs.replace(
        repair,
        attempt=command.attempt,
        allocation_id=allocation.id,
        status=RepairStatus.ASSIGNED,
        claimed_at=0.0,
        deadline=command.claim_deadline,
        steps=0,
        finding=None,
        changed_at=time,
        public_key="",
    )
    placed = msgspec.structs.replace(allocation, changed_at=time)
    state = msgspec.structs.replace(state, allocations=state.allocations.set(placed.id, placed))
    text = (
        f"{placed.id} on {home.name} is to repair {_name(state, repair)}, attempt "
        f"{command.attempt}: {command.reason}"
    )
    return _with(state, changed), (Happened("repair.assigned", repair.id, text),)


def _claim(state: ClusterState, command: ClaimRepair, time: float) -> Step:
    repair = _known(state, command.repair_id)
    _require_turn(repair, command.attempt, command.allocation_id)
    if repair.is_held_with(command.public_key, time):
        return state, ()  # its answer was lost
    if repair.status is not RepairStatus.ASSIGNED:
        raise CommandRefused(f"{repair.id}: attempt {repair.attempt} was claimed already")
    if time > repair.deadline:
        raise CommandRefused(
            f"{repair.id}: the claim comes {time - repair.deadline:.0f} s after its deadline"
        )
    changed = msgspec.structs.replace(
        repair,
        status=RepairStatus.CLAIMED,
        claimed_at=time,
        deadline=command.deadline,
        credential_until=command.deadline,
        changed_at=time,
        public_key=command.public_key,
    )
    text = (
        f"{repair.allocation_id} has its credential for {_name(state, repair)}, for "
        f"{command.deadline - time:.0f} s"
    )
    return _with(state, changed), (Happened("repair.claimed", repair.id, text),)


def _report_step(state: ClusterState, command: ReportRepairStep, time: float) -> Step:
    repair = _known(state, command.repair_id)
    _require_turn(repair, command.attempt, command.allocation_id)
    if repair.status is not RepairStatus.CLAIMED:
        raise CommandRefused(f"{repair.id}: attempt {repair.attempt} has no credential")
    if command.number <= repair.steps:
        return state, ()  # it was sent again
    if command.number > STEPS_MAX or repair.finding is not None:
        raise CommandRefused(f"{repair.id}: attempt {repair.attempt} has no more to say")
    if time > repair.deadline:
        raise CommandRefused(f"{repair.id}: attempt {repair.attempt} is past its deadline")
    changed = msgspec.structs.replace(
        repair,
        steps=command.number,
        finding=command.finding,
        trouble=command.text if command.finding is not None else repair.trouble,
        changed_at=time if command.finding is not None else repair.changed_at,
    )
    text = f"{_name(state, repair)}: {command.text}"
    return _with(state, changed), (Happened("repair.step", repair.id, text),)


def _count_refused(state: ClusterState, command: CountRefusedRepair) -> Step:
    repair = state.repairs.get(command.repair_id)
    if repair is None:
        raise CommandRefused(f"no repair {command.repair_id}")
    changed = msgspec.structs.replace(repair, refused=repair.refused + command.count)
    text = f"{command.allocation_id} is refused: {command.reason}"
    return _with(state, changed), (Happened("repair.refused", repair.id, text),)


def _fail_attempt(state: ClusterState, command: FailAttempt, time: float) -> Step:
    repair = _known(state, command.repair_id)
    if command.attempt != repair.attempt:
        raise CommandRefused(f"{repair.id} is at attempt {repair.attempt}, not {command.attempt}")
    if repair.status is RepairStatus.OPEN:
        return state, ()
    changed = _without_healer(repair, RepairStatus.OPEN, command.reason, time)
    changed = msgspec.structs.replace(changed, retry_at=command.retry_at)
    text = f"{_name(state, repair)}: attempt {repair.attempt} failed: {command.reason}"
    return _with(state, changed), (Happened("repair.attempt-failed", repair.id, text),)


def _close(state: ClusterState, command: CloseRepair, time: float) -> Step:
    repair = state.repairs.get(command.repair_id)
    if repair is None:
        raise CommandRefused(f"no repair {command.repair_id}")
    if repair.status is command.status:
        return state, ()
    if repair.status.is_terminal or not command.status.is_terminal:
        raise CommandRefused(f"{repair.id} is {repair.status}, and cannot become {command.status}")
    changed = _without_healer(repair, command.status, command.text, time)
    restored = command.status is RepairStatus.RESTORED
    follows = (f"member/{repair.member_id}",) if restored else None
    return (
        _pruned(_with(state, changed)),
        (Happened(f"repair.{command.status}", repair.id, command.text, follows),),
    )


def _without_healer(repair: Repair, status: RepairStatus, trouble: str, time: float) -> Repair:
    return msgspec.structs.replace(
        repair, status=status, allocation_id="", trouble=trouble, changed_at=time
    )


def _require_turn(repair: Repair, attempt: int, allocation_id: str) -> None:
    """Raises CommandRefused unless it is the healer that is assigned now."""
    if (attempt, allocation_id) != (repair.attempt, repair.allocation_id):
        raise CommandRefused(f"{repair.id}: {allocation_id} is not its healer")


def _known(state: ClusterState, repair_id: str) -> Repair:
    repair = state.repairs.get(repair_id)
    if repair is None:
        raise CommandRefused(f"no repair {repair_id}")
    if repair.status.is_terminal:
        raise CommandRefused(f"{repair_id} is over: {repair.status}")
    return repair


def _name(state: ClusterState, repair: Repair) -> str:
    member = state.members.get(repair.member_id)
    return member.name if member else repair.member_id


def _with(state: ClusterState, repair: Repair) -> ClusterState:
    return msgspec.structs.replace(state, repairs=state.repairs.set(repair.id, repair))


def _pruned(state: ClusterState) -> ClusterState:
    """Without the oldest that are over."""
    over = [repair for repair in state.repairs.values() if repair.status.is_terminal]
    over.sort(key=lambda repair: (repair.changed_at, repair.id), reverse=True)
    repairs = state.repairs
    for repair in over[REPAIRS_KEPT:]:
        repairs = repairs.delete(repair.id)
    return msgspec.structs.replace(state, repairs=repairs)
