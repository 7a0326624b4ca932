"""Every subject of the hub, in one place."""

from __future__ import annotations

ENTRIES = "sappers.log.entries"  # leader -> all: committed entries, msgpack of model.commands.Entry
HEARTBEAT = "sappers.log.heartbeat"  # leader -> all: {"index": int, "term": int} as JSON
REFUSED = "sappers.refused"  # member -> all: {public key of a hub user: violations} as JSON
EVENTS = "sappers.events"  # prefix; leader -> anyone: model.event.Event as JSON
ALERTS = "sappers.alerts"  # prefix; see `alert`
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


def guest_alert(allocation_id: str) -> str:
    """Monitor -> its member: all that is wrong now, JSON {"alerts": [{"kind", "subject", "text"}]}.

    Sent when it changes and every few seconds; the member has the difference committed.
    """
    return f"{guest(allocation_id)}.alert"


def alert(kind: str) -> str:
    """Monitor -> anyone: an alert of a kind (`guest.silent`) is raised or cleared, as JSON."""
    return f"{ALERTS}.{kind}"


def repair_claim(allocation_id: str) -> str:
    """Healer -> leader: model.repair.Claim as JSON."""
    return f"{guest(allocation_id)}.repair.claim"


def repair_step(allocation_id: str) -> str:
    """Healer -> leader: model.repair.ReportedStep as JSON."""
    return f"{guest(allocation_id)}.repair.step"


def repair_answer(allocation_id: str) -> str:
    """Leader -> healer: model.repair.Answer as JSON."""
    return f"{guest(allocation_id)}.repair.answer"


def allocation_of(subject: str) -> str:
    """The allocation id inside a guest's subject."""
    return subject.split(".")[2]
