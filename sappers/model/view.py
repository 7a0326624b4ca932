"""The view: what `status` shows, put together by the member that is asked."""

from __future__ import annotations

import msgspec

from sappers.model.alert import Alert
from sappers.model.allocation import Allocation
from sappers.model.cordon import Cordon
from sappers.model.entry_place import EntryPlace
from sappers.model.image import ClusterImage, ImageKey
from sappers.model.member import Member
from sappers.model.refusal import Refusal
from sappers.model.repair import Repair
from sappers.model.workload import Workload


class MemberHealth(msgspec.Struct, frozen=True):
    """One member's short word about itself: the answer of `GET /v1/health`.

    Attributes:
        cluster_id: Empty until it follows a founded cluster.
        role: A `model.observation.RaftRole`.
        hub: `running`, `down`, or `-` where no hub server belongs.
        images_whole: How many of the cluster's images it has.
        image_trouble: Why one that it lacks does not come, or empty.
        refusals: What it refused to guests and strangers in the last minutes.
        consul: `ok`, `down`, or `-` where Consul is not used.
        consul_trouble: Why what Consul says of its guests may not be true, or empty.
        gateway_trouble: Why its gateway is not as wanted, or empty.
        stream_trouble: Of a leader: why a workload's messages are not kept, by workload; the empty
            name is for all.
        log_trouble: Why it applies nothing more of the log, or empty.
        vote_trouble: Why it does not use the vote that it has, or empty.
        raft_trouble: Why its raft process does not run, though it should, or empty.
        snapshot_index: Of its newest snapshot on disk, from which new members start; 0 without.
        mesh_trouble: Why its guests' part of the mesh is not as wanted, or empty.
        state_age: Seconds since its state was as new as the cluster's; None where nobody knows.
        clock: Seconds of its own clock, which nobody sets: what it says later is told by it.
    """

    member_id: str
    name: str
    version: str
    cluster_id: str
    role: str
    term: int
    leader_id: str | None
    commit_index: int
    applied_index: int
    hub: str
    hub_connected: bool
    images_whole: int = 0
    image_trouble: str = ""
    refusals: tuple[Refusal, ...] = ()
    consul: str = "-"
    consul_trouble: str = ""
    gateway_trouble: str = ""
    snapshot_index: int = 0
    vote_trouble: str = ""
    raft_trouble: str = ""
    log_trouble: str = ""
    mesh_trouble: str = ""
    stream_trouble: dict[str, str] = {}
    state_age: float | None = None
    clock: float = 0.0


class MemberView(msgspec.Struct, frozen=True):
    """One member as the answering member sees it.

    Attributes:
        role: `leader`, `follower`, `candidate`, or `none` for members without a vote.
        applied_index: Highest log index in its state, or None when it did not answer.
        memory_used_mib: What allocations on it were promised.
        hub: `running`, `down`, or `-` where no hub server belongs.
        images_whole: How many of the cluster's images it has, or None when it did not answer.
        consul: `ok`, `down`, or `-` where Consul is not used or the member did not answer.
        suspected_by: What speaks against it; see `model.suspicion.SuspicionSource`.
    """

    member: Member
    role: str
    applied_index: int | None
    guests: int
    memory_used_mib: int
    hub: str
    images_whole: int | None = None
    consul: str = "-"
    suspected_by: tuple[str, ...] = ()


class ClusterView(msgspec.Struct, frozen=True):
    """The cluster as the answering member sees it.

    Attributes:
        answered_by: Member id.
        leader_id: None while nobody leads.
        voters_alive: How many voters gossip says are alive.
        has_quorum: Whether more than half of the electorate is alive and a leader is known.
        attention: What a person must do something about, one sentence each with what to do.
        images: What every member keeps, by name.
        alerts: What the monitor says is wrong, oldest first.
        cordons: Members that an operator closed, by id.
        repairs: Newest first; those that are over too, as far as they are kept.
        age_seconds: How old what it knows may be; None where it does not know.
    """

    cluster: str
    cluster_id: str
    answered_by: str
    leader_id: str | None
    term: int
    commit_index: int
    electorate: tuple[str, ...]
    voters_alive: int
    has_quorum: bool
    hub_servers: tuple[str, ...]
    members: tuple[MemberView, ...]
    workloads: tuple[Workload, ...]
    allocations: tuple[Allocation, ...]
    attention: tuple[str, ...]
    images: tuple[ClusterImage, ...] = ()
    alerts: tuple[Alert, ...] = ()
    repairs: tuple[Repair, ...] = ()
    cordons: dict[str, Cordon] = {}
    age_seconds: float | None = None


class Genesis(msgspec.Struct, frozen=True):
    """How a voter begins: the cluster's id and its voters. Written once, never changed.

    It is the founder's word, the same for all first voters; or, for a member that was given a vote
    later, what the committed state says (`consensus.joining.joiners_record`).

    Attributes:
        founder: Empty for a member that was given its vote later.
        voters: Member ids.
        image_keys: Whose images the cluster runs from its beginning.
        addresses: Where each voter's Raft listened then, `ip:port`.
        index: Log index of the entry that gave the vote, 0 for the first voters.
        term: The voter votes in later terms alone; 0 for the first voters.
        electorate_term: Of the entry that gave the vote; 0 where that is not known.
    """

    cluster_id: str
    founder: str
    voters: tuple[str, ...]
    addresses: dict[str, str]
    image_keys: tuple[ImageKey, ...] = ()
    index: int = 0
    term: int = 0
    electorate_term: int = 0

    @property
    def given_at(self) -> EntryPlace:
        """The entry that gave the vote; of a former voter the one that took it."""
        return EntryPlace(self.index, self.electorate_term)
