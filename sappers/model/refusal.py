"""A refusal: something that a guest, or a stranger, tried and was not let do."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class RefusalKind(StrEnum):
    """What was tried."""

    RATE = "rate"  # more messages than a guest may send
    SIZE = "size"  # a message longer than it may be
    UNREADABLE = "unreadable"  # a message that is none
    FORGED = "forged"  # health of a boot that is over, said twice, or of a guest that has ended
    HUB = "hub"  # another's subjects, or more than its credentials of the hub allow
    SUBJECT = "subject"  # asked the agents for what is another's
    SOCKET = "socket"  # calls of its sidecar that make no sense, by the sidecar's own word
    CONTROL = "control"  # nonsense at the control port, or no end of it
    ALERT = "alert"  # more alerts than a monitor may raise
    CREDENTIAL = "credential"  # a credential used twice, late, or for what it is not
    HANDSHAKE = "handshake"  # a connection to the API without a certificate of the cluster
    CROWD = "crowd"  # a connection to the API beyond what one address may open at a time


class Refusal(msgspec.Struct, frozen=True):
    """How often one thing was refused to one who tried.

    Attributes:
        kind: A `RefusalKind`; text, so that a member of another version is understood.
        subject: Who tried: an allocation id, or an address where nobody is known.
        count: How often, since the member's agent started.
        age_seconds: Since the last time.
    """

    kind: str
    subject: str
    count: int
    age_seconds: float
