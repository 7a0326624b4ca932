"""The mesh: proxies beside guests, and who may call whom through them. Follows from workloads."""

from __future__ import annotations

from typing import Literal

import msgspec

ANYBODY = "*"


class Upstream(msgspec.Struct, frozen=True):
    """A service that a guest may call.

    Attributes:
        service: Its name in Consul.
        port: Of the host's 127.0.0.1, where the proxy takes what the guest sends to it.
    """

    service: str
    port: int


class MeshProxy(msgspec.Struct, frozen=True):
    """The Connect proxy of one guest.

    Attributes:
        cluster_id, member_id, term: Whose it is, and the term that placed its guest.
        service: Whom it speaks for.
        address: The member's.
        port: Where other proxies reach it, with mutual TLS; 0 where nobody is linked to its guest.
        service_address, service_port: Where the guest answers on this host; empty with `port`.
        upstreams: What its guest may call.
    """

    cluster_id: str
    member_id: str
    allocation_id: str
    term: int
    service: str
    address: str
    port: int = 0
    service_address: str = ""
    service_port: int = 0
    upstreams: tuple[Upstream, ...] = ()


class MeshPlan(msgspec.Struct, frozen=True):
    """What should run on one member.

    Attributes:
        proxies: These, as they are here.
        staying: Allocations that are being stopped: what their proxies have open may end by itself.
    """

    cluster_id: str
    member_id: str
    proxies: tuple[MeshProxy, ...] = ()
    staying: frozenset[str] = frozenset()


class MeshPorts(msgspec.Struct, frozen=True):
    """The ports of one guest's proxy, for as long as its allocation lives.

    Attributes:
        public: Of the member's address; 0 while nobody is linked to the guest.
        links: Of the host's loopback, by what the workload calls the link.
    """

    public: int = 0
    links: dict[str, int] = {}


class Intention(msgspec.Struct, frozen=True, order=True):
    """Whether a service may call another; the source may be `ANYBODY`, exact ones go before it."""

    source: str
    destination: str
    action: Literal["allow", "deny"]


class IntentionReading(msgspec.Struct, frozen=True):
    """An intention as Consul has it.

    Attributes:
        action: Also something else than an intention of ours can be.
        mark: Its description: says whose it is.
        id: Consul's; may be empty with versions that know intentions by their names.
    """

    source: str
    destination: str
    action: str
    mark: str = ""
    id: str = ""


class SetIntention(msgspec.Struct, frozen=True):
    """Make an intention, or change the one of that id."""

    intention: Intention
    mark: str
    id: str = ""


class RemoveIntention(msgspec.Struct, frozen=True):
    """Remove an intention."""

    reading: IntentionReading


IntentionChange = SetIntention | RemoveIntention


class IntentionPlan(msgspec.Struct, frozen=True):
    """What to do about intentions.

    Attributes:
        changes: In this order, so that nothing is open for a moment.
        conflicts: Somebody else's intentions that say otherwise, a sentence for each.
    """

    changes: tuple[IntentionChange, ...] = ()
    conflicts: tuple[str, ...] = ()


class ProxyToken(msgspec.Struct, frozen=True):
    """What a proxy shows to Consul, without the secret.

    Attributes:
        id: Consul's accessor id.
        mark: Its description: for whom it was made.
    """

    id: str
    mark: str
