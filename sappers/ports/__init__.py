"""The interfaces between rooms. Adapters satisfy them; `assembly/` puts them together.

Where an adapter needs something of another room it asks for one of these in its constructor.
"""

from __future__ import annotations

from sappers.ports.foundations import Clock, Refusals
from sappers.ports.guests import OUTPUT_LOG, Launcher, Supervisor, UnitSpec, UnitStatus
from sappers.ports.hub import (
    Answer,
    Busy,
    DurableStreams,
    GuestCredentials,
    HealthInbox,
    HubClient,
    HubServer,
    HubServers,
    HubViolations,
    Received,
    RepairSigner,
    SignedMessages,
    Unsubscribe,
)
from sappers.ports.images import ChunkSource, ImageFigures, ImageStore, MemberImages
from sappers.ports.log import Applied, EventRecord, FollowingLog, QuorumHeard, ReplicatedLog
from sappers.ports.member_service import LogLevel, MemberService
from sappers.ports.members import Membership, PeerClient
from sappers.ports.services import Gateway, Intentions, MeshProxies, ServiceCatalog, ServiceRegistry

__all__ = [
    "OUTPUT_LOG",
    "Answer",
    "Applied",
    "Busy",
    "ChunkSource",
    "Clock",
    "DurableStreams",
    "EventRecord",
    "FollowingLog",
    "Gateway",
    "GuestCredentials",
    "HealthInbox",
    "HubClient",
    "HubServer",
    "HubServers",
    "HubViolations",
    "ImageFigures",
    "ImageStore",
    "Intentions",
    "Launcher",
    "LogLevel",
    "MemberImages",
    "MemberService",
    "Membership",
    "MeshProxies",
    "PeerClient",
    "QuorumHeard",
    "Received",
    "Refusals",
    "RepairSigner",
    "ReplicatedLog",
    "ServiceCatalog",
    "ServiceRegistry",
    "SignedMessages",
    "Supervisor",
    "UnitSpec",
    "UnitStatus",
    "Unsubscribe",
]
