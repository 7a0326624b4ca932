"""Every subject of the hub, in one place; docs/messaging.md lists their payloads."""

from __future__ import annotations

ENTRIES = "sappers.log.entries"  # leader -> all: signed; model.commands.Entry as msgpack
HEARTBEAT = "sappers.log.heartbeat"  # leader -> all: signed; how far the log is, as JSON
PULSE_ALL = "sappers.member.*.pulse"
REFUSED = "sappers.refused"  # member -> all: {public key of a hub user: violations} as JSON
EVENTS = "sappers.events"  # prefix; leader -> anyone: model.event.Event as JSON
ALERTS = "sappers.alerts"  # prefix; see `alert`
GUEST_HEALTH_ALL = "sappers.guest.*.health"
INBOXES = "sappers.inbox"  # prefix; answers, in inboxes whose names nobody can guess
DURABLE_ALL = "sappers.app.*.durable.>"  # what streams keep; only agents publish there


def event(kind: str) -> str:
    """Where events of a kind (`allocation.healthy`) are published."""
    return f"{EVENTS}.{kind}"


def pulse(member_id: str) -> str:
    """Member -> voters: its loop goes round; model.suspicion.Pulse as JSON."""
    return f"sappers.member.{member_id}.pulse"


def guest(allocation_id: str) -> str:
    """Prefix of what is about one guest alone."""
    return f"sappers.guest.{allocation_id}"


def guest_health(allocation_id: str) -> str:
    """Guest -> its member: a health push, as JSON; the sidecar's own words of itself."""
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


def guest_durable(allocation_id: str, call: str) -> str:
    """Guest -> an agent: `store`, `fetch` or `settle` a durable message."""
    return f"{guest(allocation_id)}.durable.{call}"


def inbox(allocation_id: str) -> str:
    """Prefix of where a guest hears answers."""
    return f"{INBOXES}.{allocation_id}"


def application(workload: str) -> str:
    """Prefix of what a workload's guests say among themselves, and what others ask of them."""
    return f"sappers.app.{workload}"


def announcements(workload: str) -> str:
    """Prefix of what a workload tells those that are linked to it."""
    return f"{application(workload)}.events"


def durable(workload: str) -> str:
    """Prefix of a workload's durable messages."""
    return f"{application(workload)}.durable"


def member_of(subject: str) -> str:
    """The member id inside a member's subject."""
    return subject.split(".")[2]


def allocation_of(subject: str) -> str:
    """The allocation id inside a guest's subject."""
    return subject.split(".")[2]


def matches(pattern: str, subject: str) -> bool:
    """Whether a subscription to `pattern` may bring a message of `subject`.

    A server delivers some messages where a requester wants them, under their own subject. So what
    comes is looked at: a subscription promises who may have said it.
    """
    wanted, found = pattern.split("."), subject.split(".")
    for place, word in enumerate(wanted):
        if word == ">":
            return len(found) > place
        if place >= len(found) or word not in ("*", found[place]):
            return False
    return len(wanted) == len(found)
