"""Where a new allocation goes: filter what is feasible, then the best by spread and room."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import msgspec

from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.member import Member, MemberState
from sappers.model.workload import Workload

# QEMU's own memory beside the guest's; under TCG a cold 128 MiB guest needs about 300 MiB.
# What one needs as a rule; its unit's limit, in `launchers/command.py`, is the most it may take.
GUEST_OVERHEAD_MIB = 170
FIRST_SPARE_PORT = 20_000

_Key = tuple[bool, int, int, int, str]  # suspected, failed there, copies there, -free MiB, id


class Placement(msgspec.Struct, frozen=True):
    """A feasible place for one more allocation, and why it is the best one."""

    member: Member
    host_port: int | None
    reason: str


class NoPlacement(msgspec.Struct, frozen=True):
    """No member can take one more allocation; `reason` says what each of them lacks."""

    reason: str


def memory_promised_mib(state: ClusterState, member_id: str) -> int:
    """Memory that live allocations on a member may use, QEMU's own included."""
    return sum(
        allocation.memory_mib + GUEST_OVERHEAD_MIB
        for allocation in state.allocations_on(member_id)
        if not allocation.status.is_terminal
    )


def place(state: ClusterState, workload: Workload, avoid: str = "") -> Placement | NoPlacement:
    """The member for one more allocation of a workload.

    Suspected members come last, before them those where it failed before; then those with fewest
    of its copies come first, then those with most free memory. None goes to `avoid` (a member id).
    """
    room = Room(state)
    chosen = room.choose(workload, avoid)
    return chosen or NoPlacement("; ".join(room.lacking(workload, avoid)) or "no member is alive")


class Room:
    """What members have to give, while one plan gives it away.

    A choice costs the logarithm of the cluster's size, if those of one workload are made one after
    the other. So all that a cluster runs can be placed anew in one plan.
    """

    def __init__(self, state: ClusterState) -> None:
        self.state = state
        self.free_mib = {
            member.id: member.resources.memory_mib - memory_promised_mib(state, member.id)
            for member in state.living_members()
            if member.state is MemberState.ALIVE and member.id not in state.cordons
        }
        self._ports: dict[str, _Ports] = {}
        self._search: _Search | None = None
        # Members by room, most first, apart from them the suspected ones. An entry may be old: it
        # is put in its place when it comes up.
        self.by_room: dict[bool, list[tuple[int, str]]] = {False: [], True: []}
        for member_id, free_mib in self.free_mib.items():
            self.by_room[self.suspects(member_id)].append((-free_mib, member_id))
        for heap in self.by_room.values():
            heapq.heapify(heap)

    def suspects(self, member_id: str) -> bool:
        """Whether something speaks against a member."""
        return self.state.suspicion(member_id) is not None

    def choose(self, workload: Workload, avoid: str = "") -> Placement | None:
        """The best member for one more copy, see `place`; nothing is taken yet."""
        search = self._search
        if search is None or (search.workload, search.avoid) != (workload, avoid):
            if search is not None:
                search.close()
            search = self._search = _Search(self, workload, avoid)
        best = search.best()
        if best is None:
            return None
        _, _, copies, negative_mib, member_id = best
        member = self.state.members[member_id]
        reason = f"{-negative_mib} MiB free, {copies} copies there"
        return Placement(member, self._host_port(member, workload), reason)

    def take(self, allocation: Allocation) -> None:
        """An allocation was placed where `choose` said: its room is nobody else's."""
        self.free_mib[allocation.member_id] -= allocation.memory_mib + GUEST_OVERHEAD_MIB
        if allocation.host_port is not None:
            member = self.state.members[allocation.member_id]
            self._ports_at(member.address).taken.add(allocation.host_port)
        if self._search is not None:
            self._search.took(allocation.member_id)

    def lacking(self, workload: Workload, avoid: str = "") -> Iterator[str]:
        """What each member lacks that cannot take one more copy, one sentence each."""
        needed_mib = workload.memory_mib + GUEST_OVERHEAD_MIB
        for member in self.state.living_members():
            free_mib = self.free_mib.get(member.id)
            if member.state is not MemberState.ALIVE:
                yield f"{member.name} is {member.state}"
            elif member.id == avoid:
                yield f"{member.name} is not to run it"
            elif cordon := self.state.cordons.get(member.id):
                yield f"{member.name} is {cordon.word}"
            elif free_mib is not None and free_mib < needed_mib:
                yield f"{member.name} has {free_mib} MiB free of {needed_mib} MiB needed"

    def _host_port(self, member: Member, workload: Workload) -> int | None:
        """The port asked for when it is free at the member's address, else the first spare one.

        Members that were started by hand on one machine have one address together.
        """
        if workload.guest_port is None:
            return None
        ports = self._ports_at(member.address)
        wanted = workload.host_port or workload.guest_port
        return wanted if wanted not in ports.taken else ports.first_spare()

    def _ports_at(self, address: str) -> _Ports:
        if not self._ports:
            for member in self.state.members.values():
                there = self._ports.setdefault(member.address, _Ports())
                there.taken |= member.ports.taken()
                there.taken |= {
                    one.host_port
                    for one in self.state.allocations_on(member.id)
                    if one.host_port is not None and not one.status.is_terminal
                }
        return self._ports[address]


class _Search:
    """Choices for one workload, one after the other."""

    def __init__(self, room: Room, workload: Workload, avoid: str) -> None:
        self.workload = workload
        self.avoid = avoid
        self._room = room
        self._needed_mib = workload.memory_mib + GUEST_OVERHEAD_MIB
        self._aside: dict[bool, list[tuple[int, str]]] = {False: [], True: []}
        # Members that have, or had, copies of it: how many failed, how many live.
        self._known: dict[str, tuple[int, int]] = {}
        healers = (a for a in room.state.healers() if a.workload == workload.name)
        for one in (*room.state.allocations_of(workload.name), *healers):
            failed, copies = self._known.get(one.member_id, (0, 0))
            failed += one.status is AllocationStatus.FAILED and one.revision == workload.revision
            self._known[one.member_id] = (failed, copies + (not one.status.is_terminal))
        self._heap = [
            self._key(one) for one in self._known if one in room.free_mib and one != avoid
        ]
        heapq.heapify(self._heap)

    def best(self) -> _Key | None:
        """The best of all members that have room."""
        found = [key for key in (self._best_known(), self._roomiest()) if key is not None]
        return min(found, default=None)

    def took(self, member_id: str) -> None:
        """A copy was placed there."""
        failed, copies = self._known.get(member_id, (0, 0))
        self._known[member_id] = (failed, copies + 1)
        heapq.heappush(self._heap, self._key(member_id))

    def close(self) -> None:
        """Leave the room as the next search needs it."""
        for suspected, aside in self._aside.items():
            for each in aside:
                heapq.heappush(self._room.by_room[suspected], each)
            aside.clear()

    def _key(self, member_id: str) -> _Key:
        room = self._room
        return (
            room.suspects(member_id),
            *self._known[member_id],
            -room.free_mib[member_id],
            member_id,
        )

    def _best_known(self) -> _Key | None:
        while self._heap:
            key = self._heap[0]
            if key == self._key(key[-1]) and -key[3] >= self._needed_mib:
                return key
            heapq.heappop(self._heap)  # full, or it is there anew
        return None

    def _roomiest(self) -> _Key | None:
        """Of those that never had a copy; suspected ones last."""
        for suspected, heap in self._room.by_room.items():
            while heap:
                negative_mib, member_id = heap[0]
                now_mib = self._room.free_mib[member_id]
                if -negative_mib != now_mib:
                    heapq.heapreplace(heap, (-now_mib, member_id))
                elif now_mib < self._needed_mib:
                    break
                elif member_id in self._known or member_id == self.avoid:
                    self._aside[suspected].append(heapq.heappop(heap))
                else:
                    return suspected, 0, 0, negative_mib, member_id
        return None


class _Ports:
    """Ports of one address."""

    def __init__(self) -> None:
        self.taken: set[int] = set()
        self._next = FIRST_SPARE_PORT

    def first_spare(self) -> int:
        while self._next in self.taken:
            self._next += 1
        return self._next
