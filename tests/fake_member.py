"""A member without an agent: the real state machine behind a log that commits at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sappers.agent.clock import SystemClock
from sappers.agent.hub.refusals import Refusals
from sappers.agent.images.spread import Spread
from sappers.agent.record.event_record import EventRecord
from sappers.consensus.state_machine import apply
from sappers.errors import LaunchError, MemberUnreachable, SappersError
from sappers.model.allocation import Allocation
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import encode_state
from sappers.model.commands import Entry, Proposal, encode_proposal
from sappers.model.event import Event
from sappers.model.gossip_keys import GossipKeys
from sappers.model.image import Manifest
from sappers.model.member import Accelerator, Member, Ports, Resources
from sappers.model.observation import RaftRole, RaftStatus
from sappers.model.policy import EventSettings, ImageSettings
from sappers.model.repair import RepairKey, RepairLogin
from sappers.model.view import ClusterView, Genesis, MemberHealth, MemberView
from sappers.model.workload import ImageReference
from sappers.ports import Applied, QuorumHeard
from sappers.security.repair_authority import SealedRepairSigner
from tests.image_stores import KEY, make_store
from tests.unit.worlds import allocation


def make_member(name: str, address: str = "127.0.0.1", http_port: int = 11000) -> Member:
    return Member(
        id=name,
        name=name,
        address=address,
        ports=Ports(http=http_port),
        resources=Resources(cpus=2, memory_mib=2048),
        accelerator=Accelerator("tcg", "the processor shows neither vmx nor svm"),
        version="0.1.0",
        has_vote=True,
    )


HUB_SEED = "seed"


class InstantLog:
    age: float | None = 0.0

    """Commits every proposal at once, through the real state machine."""

    def __init__(self, me: Member) -> None:
        self.me = me
        self.current = ClusterState()
        self.entries: list[Entry] = []
        self.compacted_to = 0
        self.fails_with: SappersError | None = None

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def state(self) -> ClusterState:
        return self.current

    def state_age(self) -> float | None:
        return self.age

    def status(self) -> RaftStatus:
        index = self.current.index
        return RaftStatus(RaftRole.LEADER, 1, self.me.id, index, index, (self.me.id,))

    async def propose(self, proposal: Proposal, timeout_seconds: float) -> Applied:
        if self.fails_with is not None:
            raise self.fails_with
        entry = Entry(self.current.index + 1, 1, encode_proposal(proposal))
        self.current, outcome = apply(self.current, entry)
        self.entries.append(entry)
        return Applied(entry.index, 1, outcome.refused)

    async def read_barrier(self, timeout_seconds: float) -> QuorumHeard:
        return QuorumHeard(self.current.index, self.current.term)

    def entries_after(self, index: int, limit: int) -> Sequence[Entry] | None:
        if index < self.compacted_to:
            return None
        return [entry for entry in self.entries if entry.index > index][:limit]

    def events_after(self, number: int) -> tuple[Event, ...]:
        return tuple(event for event in self.current.events if event.number > number)

    async def written_snapshot(self) -> bytes:
        return await self.snapshot()

    async def snapshot(self) -> bytes:
        return encode_state(self.current)

    async def trigger_snapshot(self) -> int:
        return self.current.index

    async def changes(self) -> AsyncIterator[None]:
        return
        yield


class NoPeers:
    """A cluster of one: nobody to ask, nothing to fetch."""

    async def call(
        self, member: Member, method: str, path: str, *, body: Any = None, timeout_seconds: float
    ) -> bytes:
        raise MemberUnreachable(f"{member.name} is not there")

    def get(self, member: Member, chunk: str) -> bytes:
        raise MemberUnreachable(f"{member.name} is not there")


class WarmLauncher:
    """Warms everything at once."""

    async def warm(self, manifest: Manifest, digest: str) -> str:
        return f"{manifest.name} starts quickly now"


class FakeMember:
    """Satisfies `ports.MemberService`."""

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        settings: ImageSettings = ImageSettings(),  # noqa: B008
        trusted: Callable[[], Collection[str]] = lambda: (KEY.public,),
    ) -> None:
        self._me = make_member(name)
        self.instant_log = InstantLog(self._me)
        self.store = make_store(folder, trusted)
        self.spread = Spread(
            me_id=name,
            store=self.store,
            launcher=WarmLauncher(),
            peers=NoPeers(),
            chunks=NoPeers(),
            members=self.members,
            settings=settings,
            clock=SystemClock(),
        )
        self.event_folder = folder.parent / f"{name}-events"
        self.events = EventRecord(
            self.event_folder,
            EventSettings(),
            lambda: self.instant_log,
            NoPeers(),
            self.members,
            lambda: name,
        )
        self.refusals = Refusals(SystemClock())
        self.genesis: Genesis | None = None
        self.serial_logs: dict[str, str] = {}
        self.breaks = False
        self.log_level = "INFO"
        self.keys = GossipKeys(("A" * 43 + "=",))

    @property
    def me(self) -> Member:
        return self._me

    def listens_at(self, http_port: int) -> None:
        """Say so by gossip, to clients that call each member."""
        ports = msgspec.structs.replace(self._me.ports, http=http_port)
        self._me = msgspec.structs.replace(self._me, ports=ports)

    @property
    def log(self) -> InstantLog:
        return self.instant_log

    @property
    def images(self) -> Spread:
        return self.spread

    @property
    def hub_connected(self) -> bool:
        return True

    def refused(self) -> Mapping[str, int]:
        return self.refusals.totals()

    def pushes_heard(self) -> int:
        return 0

    def hub_credentials(self) -> str:
        return "a credentials file"

    def gossip_keys(self) -> GossipKeys:
        return self.keys

    async def put_gossip_keys(self, keys: GossipKeys) -> None:
        self.keys = keys

    def check_repair_access(self, key: RepairKey, logins: Sequence[RepairLogin]) -> None:
        SealedRepairSigner(HUB_SEED).check(key, logins)

    def members(self) -> tuple[Member, ...]:
        return (self._me,)

    def leader(self) -> Member | None:
        return self._me

    async def health(self) -> MemberHealth:
        status = self.log.status()
        return make_health(
            self._me.id, commit_index=status.commit_index, applied_index=status.applied_index
        )

    async def view(self) -> ClusterView:
        if self.breaks:
            raise RuntimeError("a secret that no caller should read")
        state = self.log.state()
        return make_view(
            (MemberView(self._me, "leader", state.index, 0, 0, "running"),),
            commit_index=state.index,
            workloads=tuple(state.workloads.values()),
            allocations=tuple(state.allocations.values()),
        )

    async def propose(self, proposal: Proposal, timeout_seconds: float) -> Applied:
        return await self.log.propose(proposal, timeout_seconds)

    async def hear_quorum(self) -> QuorumHeard:
        return await self.log.read_barrier(1.0)

    async def serial_log(self, allocation_id: str, tail_bytes: int) -> str:
        if allocation_id not in self.serial_logs:
            raise LaunchError(f"no guest {allocation_id} on {self._me.name}")
        return self.serial_logs[allocation_id][-tail_bytes:]

    def set_log_level(self, level: str) -> None:
        self.log_level = level

    async def accept_genesis(self, genesis: Genesis) -> None:
        self.genesis = genesis


def make_health(name: str, **changes: object) -> MemberHealth:
    health = MemberHealth(
        member_id=name,
        name=name,
        version="0.1.0",
        cluster_id="c0ffee",
        role="follower",
        term=3,
        leader_id="n1",
        commit_index=42,
        applied_index=42,
        hub="running",
        hub_connected=True,
    )
    return msgspec.structs.replace(health, **changes)


def make_view(members: tuple[MemberView, ...], **changes: object) -> ClusterView:
    """A healthy cluster of these members, the first of which leads, with `changes`."""
    ids = tuple(one.member.id for one in members)
    view = ClusterView(
        cluster="lab",
        cluster_id="c0ffee",
        answered_by=ids[0],
        leader_id=ids[0],
        term=3,
        commit_index=42,
        electorate=ids,
        voters_alive=len(ids),
        has_quorum=True,
        hub_servers=ids,
        members=members,
        workloads=(),
        allocations=(),
        attention=(),
    )
    return msgspec.structs.replace(view, **changes)


def make_allocation(workload: str, member_id: str, **changes: object) -> Allocation:
    image = ImageReference(workload, "0" * 64)
    made = allocation(f"{workload}-0a1b2c3d", workload=workload, image=image, member_id=member_id)
    return msgspec.structs.replace(made, **changes)
