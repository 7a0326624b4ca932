"""The replicated state: what every member agrees on at a given log index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import immutables
import msgspec

from sappers.model.alert import Alert
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.backup import Restoring
from sappers.model.cordon import Cordon
from sappers.model.entry_place import EntryPlace
from sappers.model.event_tail import EventTail
from sappers.model.image import ClusterImage, ImageKey
from sappers.model.member import Member
from sappers.model.repair import CLOCKS_DIFFER_SECONDS, Repair, RepairKey, RepairLogin
from sappers.model.suspicion import Suspicion
from sappers.model.workload import Workload

EVENTS_KEPT = 1000
REQUESTS_KEPT = 10_000
_GUEST_KINDS = ("microvm", "nanos")
REPAIRS_KEPT = 50


class ClusterState(msgspec.Struct, frozen=True, dict=True):
    """Everything the log has decided, up to and including `index`.

    The tables are persistent maps: a new state shares all that did not change with the old one,
    so a snapshot is the value itself and costs nothing to take.

    Attributes:
        cluster_id: Empty until the cluster is founded.
        electorate: Ids of the members that have a Raft vote: the Raft configuration.
        electorate_index, electorate_term: Of the entry that made the electorate what it is; the
            term is 0 where a version without it did.
        revoked: Members whose certificates are refused, with the Unix time since when.
        hub_keys: What members say of their keys for the hub, by id: signed, and looked at by those
            who run its servers.
        hub_seed_ends: Unix time from when on the hub's seed, which all members have, admits nobody
            to the hub: members' own keys do. None while there are members without one.
        format: Of the log: all members know what is of it, or of an earlier one.
        voter_addresses: Where the Raft of voters that were added listened then, `ip:port` by id.
        hub_servers: Ids of the members that run the hub; `hub_term` is the term that chose them.
        images: Every image that the members keep, by digest.
        image_keys: Whose images may be launched; never empty once there was one.
        stopped_by_hand: System workloads that an operator stopped; the leader starts none of them.
        alerts: What the monitor says is wrong, oldest first; at most `ALERTS_KEPT`.
        events: The newest `EVENTS_KEPT`, oldest first; members keep more, in files.
        event_count: How many events there have ever been: the number of the newest.
        event_head: Digest of the newest event; it stands for the whole chain.
        newest_events: Number of the newest event about a thing such as `member/m1`: the cause of
            what follows from it.
        restoring: A backup that is on its way into the log, and takes effect when it is whole.
        restored: Digest of the backup that took effect last; empty when workloads change later.
        repairs: Open ones, and of those that are over the newest; `REPAIRS_KEPT` in all.
        repair_key: What healers' certificates are signed with; None while bootstrap gave none.
        repair_logins: How a healer logs in to a member's host, by member id.
        suspicions: What speaks, or last spoke, against members, by id.
        cordons: Members that an operator closed, by id: nothing new goes there.
        requests: Request id to the index that it was applied at; below `REQUESTS_KEPT` of them.
        older_requests: The `REQUESTS_KEPT` before these; the older ones are forgotten.
    """

    cluster_id: str = ""
    index: int = 0
    term: int = 0
    electorate: tuple[str, ...] = ()
    hub_servers: tuple[str, ...] = ()
    hub_term: int = 0
    members: immutables.Map[str, Member] = immutables.Map()
    workloads: immutables.Map[str, Workload] = immutables.Map()
    allocations: immutables.Map[str, Allocation] = immutables.Map()
    images: immutables.Map[str, ClusterImage] = immutables.Map()
    image_keys: tuple[ImageKey, ...] = ()
    stopped_by_hand: tuple[str, ...] = ()
    alerts: tuple[Alert, ...] = ()
    events: EventTail = EventTail()
    requests: immutables.Map[str, int] = immutables.Map()
    older_requests: immutables.Map[str, int] = immutables.Map()
    repairs: immutables.Map[str, Repair] = immutables.Map()
    repair_key: RepairKey | None = None
    repair_logins: immutables.Map[str, RepairLogin] = immutables.Map()
    suspicions: immutables.Map[str, Suspicion] = immutables.Map()
    cordons: immutables.Map[str, Cordon] = immutables.Map()
    event_count: int = 0
    event_head: str = ""
    newest_events: immutables.Map[str, int] = immutables.Map()
    electorate_index: int = 0
    voter_addresses: immutables.Map[str, str] = immutables.Map()
    revoked: immutables.Map[str, float] = immutables.Map()
    restoring: Restoring | None = None
    restored: str = ""
    hub_keys: immutables.Map[str, bytes] = immutables.Map()
    hub_seed_ends: float | None = None
    electorate_term: int = 0
    format: int = 0

    @property
    def electorate_at(self) -> EntryPlace:
        """Where the entry is that made the electorate what it is."""
        return EntryPlace(self.electorate_index, self.electorate_term)

    @property
    def progress(self) -> tuple[int, int]:
        """Term and index: the greater is the newer state. See `is_as_new_as`."""
        return self.term, self.index

    def is_as_new_as(self, index: int, term: int) -> bool:
        """Whether it has a committed entry, or what came after it.

        The index alone does not tell: after `raft recover` other entries have indexes of those that
        were given up, in later terms.
        """
        return self.index >= index and self.term >= term

    def living_members(self) -> tuple[Member, ...]:
        """Members that are alive or suspect, by id."""
        return tuple(member for _, member in sorted(self.members.items()) if member.lives)

    def newest_guest_image(self, *names: str) -> ClusterImage | None:
        """The image of one of these names that was pushed last; none of a whole host's."""
        named = [i for i in self.images.values() if i.name in names and i.kind in _GUEST_KINDS]
        return max(named, key=lambda image: (image.pushed_at, image.digest), default=None)

    def allocations_of(self, workload: str) -> tuple[Allocation, ...]:
        """The workload's allocations, by id; healers belong to repairs and to no workload."""
        return self._by_workload.get(workload, ())

    def allocations_on(self, member_id: str) -> tuple[Allocation, ...]:
        """The member's allocations, by id."""
        return self._by_member.get(member_id, ())

    def healers(self) -> tuple[Allocation, ...]:
        """Allocations that belong to repairs, by id."""
        return self._by_workload.get("", ())

    # Made when first asked for, as the value does not change: whoever asks for each member in turn
    # must not go through all allocations each time.

    @cached_property
    def _by_workload(self) -> Mapping[str, tuple[Allocation, ...]]:
        return _grouped(self.allocations, lambda one: "" if one.repair else one.workload)

    @cached_property
    def _by_member(self) -> Mapping[str, tuple[Allocation, ...]]:
        return _grouped(self.allocations, lambda one: one.member_id)

    def monitor(self) -> Allocation | None:
        """The allocation whose alerts count: of those that run as monitor the healthy, newest."""
        running = [
            a
            for a in self.allocations.values()
            if a.role == "monitor" and a.wanted and not a.status.is_terminal
        ]
        return min(
            running,
            key=lambda a: (a.status is not AllocationStatus.HEALTHY, -a.revision, a.id),
            default=None,
        )

    def suspicion(self, member_id: str) -> Suspicion | None:
        """What speaks against a member now, or None."""
        found = self.suspicions.get(member_id)
        return found if found is not None and found.sources else None

    def open_repair(self, member_id: str) -> Repair | None:
        """The member's repair that is not over, or None; there is one at most."""
        return next(
            (
                repair
                for repair in self.repairs.values()
                if repair.member_id == member_id and not repair.status.is_terminal
            ),
            None,
        )

    def healers_at_work(self, repair: Repair, now: float) -> tuple[Allocation, ...]:
        """Healers of a repair that may still be able to do something, by id.

        One that was seen to end is not; one that is lost may be, until its credential has ended.
        """
        if now >= repair.credential_until + CLOCKS_DIFFER_SECONDS:
            return ()
        return tuple(
            allocation
            for allocation in self.healers()
            if allocation.repair == repair.id
            and (not allocation.status.is_terminal or allocation.status is AllocationStatus.LOST)
        )


def _grouped(
    allocations: immutables.Map[str, Allocation], key: Callable[[Allocation], str]
) -> Mapping[str, tuple[Allocation, ...]]:
    found: dict[str, list[Allocation]] = {}
    for allocation in allocations.values():
        found.setdefault(key(allocation), []).append(allocation)
    return {name: tuple(sorted(group, key=_id)) for name, group in found.items()}


def _id(allocation: Allocation) -> str:
    return allocation.id
