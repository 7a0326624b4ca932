"""Every subject of the hub, in one place."""

from __future__ import annotations

ENTRIES = "sappers.log.entries"  # leader -> all: committed entries, msgpack of model.commands.Entry
HEARTBEAT = "sappers.log.heartbeat"  # leader -> all: {"index": int, "term": int} as JSON
EVENTS = "sappers.events"  # prefix; leader -> anyone: model.event.Event as JSON
GUEST_HEALTH_ALL = "sappers.guest.*.health"


def event(kind: str) -> str:
    """Where events of a kind (`allocation.healthy`) are published."""
    return f"{EVENTS}.{kind}"


def guest(allocation_id: str) -> str:
    """Prefix of all that one guest may publish."""
    return f"sappers.guest.{allocation_id}"


def guest_health(allocation_id: str) -> str:
    """Guest -> its member: a health push, JSON {"healthy", "reason", "boot_id", "sequence"}."""
    return f"{guest(allocation_id)}.health"


def allocation_of(subject: str) -> str:
    """The allocation id inside a guest's subject."""
    return subject.split(".")[2]
