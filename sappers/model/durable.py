"""Durable messages: what the hub keeps for a workload until one of its guests is done with it."""

from __future__ import annotations

import msgspec


class StreamReading(msgspec.Struct, frozen=True):
    """A workload's stream as it was last seen.

    Attributes:
        replicas: On how many servers it is kept.
        whole: It has the limits that it should have, and its consumer.
    """

    replicas: int
    whole: bool = True


class KeepStream(msgspec.Struct, frozen=True):
    """Make a workload's stream, or make it as it should be."""

    workload: str
    replicas: int


class RemoveStream(msgspec.Struct, frozen=True):
    """Remove the stream of a workload that is gone, with all that is in it."""

    workload: str


StreamAction = KeepStream | RemoveStream


class StoredMessage(msgspec.Struct, frozen=True):
    """A message is on the disks of most of the stream's servers.

    Attributes:
        sequence: Its place in the stream.
        duplicate: It was there already, by its id.
    """

    sequence: int
    duplicate: bool = False


class KeptMessage(msgspec.Struct, frozen=True):
    """A message as it is delivered.

    Attributes:
        token: What settles it.
        deliveries: How often it was delivered, this time included.
    """

    subject: str
    payload: bytes
    token: str
    deliveries: int
