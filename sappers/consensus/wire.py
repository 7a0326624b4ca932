"""What the raft process says to its agent and to other voters, in msgpack."""

from __future__ import annotations

from pathlib import Path

import msgspec

from sappers.config import RaftSettings
from sappers.consensus.journal import LogEntry
from sappers.consensus.snapshot import Chunk
from sappers.model.commands import Entry
from sappers.model.observation import RaftStatus
from sappers.model.view import Genesis
from sappers.security.tls import Identity, Role


class _Peer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """Between voters; the field names are pysyncobj's."""


class Hello(_Peer, frozen=True, tag="hello"):
    """The first frame, both ways."""

    cluster_id: str
    node_id: str


class Ping(_Peer, frozen=True, tag="ping"):
    """Keeps idle connections known to be alive."""


class PreVote(_Peer, frozen=True, tag="pre_vote"):
    """Would you vote for me in the next term? Changes nothing at either side."""

    term: int
    last_log_index: int
    last_log_term: int


class PreVoteGranted(_Peer, frozen=True, tag="pre_vote_granted"):
    """I would; `term` is the asker's."""

    term: int


class NewerTerm(_Peer, frozen=True, tag="newer_term"):
    """Your term is over."""

    term: int


class TimeoutNow(_Peer, frozen=True, tag="timeout_now"):
    """Begin an election now: the leader hands over."""

    term: int


class Removed(_Peer, frozen=True, tag="removed"):
    """You have no vote: the entry at `index` made the electorate what it is.

    Attributes:
        term: Of that entry; 0 where it is not said, as by and to voters of before.
    """

    index: int
    term: int = 0


class RequestVote(_Peer, frozen=True, tag="request_vote"):
    """Raft's RequestVote."""

    term: int
    last_log_index: int
    last_log_term: int


class ResponseVote(_Peer, frozen=True, tag="response_vote"):
    """A granted vote."""

    term: int


class AppendEntries(_Peer, frozen=True, tag="append_entries"):
    """Raft's AppendEntries."""

    term: int
    commit_index: int
    entries: list[LogEntry]
    prevLogIdx: int | None  # noqa: N815
    prevLogTerm: int | None  # noqa: N815


class InstallSnapshot(_Peer, frozen=True, tag="install_snapshot"):
    """A part of a snapshot; None while none can be sent, just to show life."""

    term: int
    commit_index: int
    serialized: Chunk | None


class NextNodeIndex(_Peer, frozen=True, tag="next_node_idx"):
    """The answer to AppendEntries and InstallSnapshot; `term` is the one it was said in."""

    term: int
    next_node_idx: int
    reset: bool
    success: bool


class Probe(_Peer, frozen=True, tag="probe"):
    """A leader to a follower; see `ages.py`.

    Attributes:
        at: What the leader's own clock shows.
        age: Of the leader's state, in seconds; None while it does not know.
        heard: The newest `now` of this follower.
    """

    term: int
    at: float
    age: float | None
    commit_index: int
    heard: tuple[float, float] | None


class ProbeAnswer(_Peer, frozen=True, tag="probe_answer"):
    """The answer.

    Attributes:
        at: As it was asked.
        now: When the follower's process started, and what its clock shows.
    """

    term: int
    at: float
    now: tuple[float, float]


PeerMessage = (
    Hello
    | Ping
    | PreVote
    | PreVoteGranted
    | NewerTerm
    | TimeoutNow
    | Removed
    | RequestVote
    | ResponseVote
    | AppendEntries
    | InstallSnapshot
    | NextNodeIndex
    | Probe
    | ProbeAnswer
)


class Credentials(msgspec.Struct, frozen=True):
    """An `Identity` that the agent has checked, as it travels.

    Attributes:
        ca, cert, key: Paths.
    """

    ca: str
    cert: str
    key: str
    node_id: str
    role: Role
    cluster: str

    @classmethod
    def of(cls, identity: Identity) -> Credentials:
        """To be sent."""
        paths = (str(identity.ca), str(identity.cert), str(identity.key))
        return cls(*paths, identity.node_id, identity.role, identity.cluster)

    def identity(self) -> Identity:
        """As it was."""
        paths = (Path(self.ca), Path(self.cert), Path(self.key))
        return Identity(*paths, self.node_id, self.role, self.cluster)


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Agent to process, first: all it must know; nothing stands in its arguments."""

    me_id: str
    genesis: Genesis
    folder: str
    credentials: Credentials
    settings: RaftSettings
    listen: tuple[str, int]
    addresses: dict[str, str]
    log_level: str


class Propose(msgspec.Struct, frozen=True, tag="propose"):
    """Agent to process: commit this."""

    request: int
    payload: bytes


class ChangeElectorate(msgspec.Struct, frozen=True, tag="change-electorate"):
    """Agent to process: commit this proposal, which adds or removes one voter."""

    request: int
    payload: bytes


class Recover(msgspec.Struct, frozen=True, tag="recover"):
    """Agent to process: go on alone; `payload` is a proposal without commands."""

    request: int
    payload: bytes
    listen_seconds: float = 0.0


class TransferLeadership(msgspec.Struct, frozen=True, tag="transfer-leadership"):
    """Agent to process: make this voter lead."""

    request: int
    member_id: str
    timeout_seconds: float


class TakeSnapshot(msgspec.Struct, frozen=True, tag="take-snapshot"):
    """Agent to process: compact now."""

    request: int


class SetAddresses(msgspec.Struct, frozen=True, tag="set-addresses"):
    """Agent to process: where voters are now, `ip:port` by node id.

    Attributes:
        others: Members that say they have a vote, which this voter's own configuration does not
            name: while it hears no leader, it may be the one that does not know.
    """

    addresses: dict[str, str]
    others: dict[str, str] = {}


class RenewCertificate(msgspec.Struct, frozen=True, tag="renew-certificate"):
    """Agent to process: the certificate files hold others now, which are good."""


class SetLogLevel(msgspec.Struct, frozen=True, tag="set-log-level"):
    """Agent to process: log what is of this level or above."""

    level: str


class AgentLives(msgspec.Struct, frozen=True, tag="agent-lives"):
    """Agent to process: its loop goes round. Said every second; other messages say it, too."""


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Agent to process: end in order."""


AgentMessage = (
    Start
    | Propose
    | ChangeElectorate
    | TransferLeadership
    | Recover
    | TakeSnapshot
    | SetAddresses
    | SetLogLevel
    | RenewCertificate
    | AgentLives
    | Stop
)


class LoadState(msgspec.Struct, frozen=True, tag="load-state"):
    """Process to agent: the encoded state that later entries build on; None: the empty one."""

    snapshot: bytes | None


class Committed(msgspec.Struct, frozen=True, tag="committed"):
    """Process to agent: the next committed entries."""

    entries: list[Entry]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """Process to agent: the proposal is committed and applied; the entry was sent before."""

    request: int
    index: int
    term: int
    refused: str


class Rejected(msgspec.Struct, frozen=True, tag="rejected"):
    """Process to agent: definitely not committed."""

    request: int
    reason: str


class Unknown(msgspec.Struct, frozen=True, tag="unknown"):
    """Process to agent: nobody can tell any more whether it was committed."""

    request: int
    reason: str


class SnapshotTaken(msgspec.Struct, frozen=True, tag="snapshot-taken"):
    """Process to agent: a durable snapshot covers the log up to `index`."""

    request: int
    index: int


class Standing(msgspec.Struct, frozen=True, tag="standing"):
    """Process to agent: the status changed."""

    status: RaftStatus


class StateAge(msgspec.Struct, frozen=True, tag="state-age"):
    """Process to agent: the state was as new as the cluster's then.

    Attributes:
        as_of: Seconds of CLOCK_MONOTONIC, which is one for both: however late it is heard.
    """

    as_of: float


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """Process to agent: it ends for good, as the entry at `index` took its vote."""

    index: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Process to agent: it ends, for this reason; `damaged`: a file cannot be trusted."""

    message: str
    damaged: bool
    hint: str | None


ProcessMessage = (
    LoadState
    | Committed
    | Done
    | Rejected
    | Unknown
    | SnapshotTaken
    | Standing
    | StateAge
    | Ended
    | Failed
)

decode_peer_message = msgspec.msgpack.Decoder(PeerMessage).decode
decode_agent_message = msgspec.msgpack.Decoder(AgentMessage).decode
decode_process_message = msgspec.msgpack.Decoder(ProcessMessage).decode
