"""What goes through the hub, as applications see it, and what they are told when it does not."""

from __future__ import annotations

from dataclasses import dataclass

SOCKET_PATH = "/run/sappers/sidecar.sock"
SOCKET_VARIABLE = "SAPPERS_SOCKET"
PAYLOAD_BYTES_MAX = 64 * 1024
SUBJECT_CHARACTERS_MAX = 256
QUEUED_MAX = 1024  # of one subscription, that an application has not taken yet


class MessagingError(Exception):
    """A message did not go, or nobody answered; the text says why."""


class Nonsense(MessagingError):
    """What was asked for makes no sense, or is more than anybody may have."""


@dataclass(frozen=True)
class Message:
    """A message that arrived.

    Attributes:
        subject: In full, `sappers.…`.
        reply: Where an answer goes; empty when none is waited for.
    """

    subject: str
    payload: bytes
    reply: str = ""


@dataclass(frozen=True)
class DurableMessage:
    """A durable message, to be settled once it is dealt with.

    Attributes:
        token: What settles it.
        deliveries: How often it was delivered, this time included.
    """

    subject: str
    payload: bytes
    token: str
    deliveries: int = 1


@dataclass(frozen=True)
class Stored:
    """A durable message is safe.

    Attributes:
        sequence: Its place in the workload's stream.
        duplicate: It was there already, by its id.
    """

    sequence: int
    duplicate: bool = False
