"""What applications write to the sidecar's socket and read from it; pure."""

from __future__ import annotations

import base64
import json
from typing import Any

from sappers.sidecar.message import DurableMessage, Message, MessagingError, Stored

SPARE_SECONDS = 5.0  # that the sidecar itself may need beside the time it was given

Frame = dict[str, Any]


def encode(op: str, number: int, payload: bytes | None = None, **values: Any) -> bytes:
    """One line."""
    frame: Frame = {"op": op, "id": number, **values}
    if payload is not None:
        frame["payload"] = base64.b64encode(payload).decode()
    return json.dumps(frame).encode() + b"\n"


def decode(line: bytes) -> Frame:
    """One line's object.

    Raises:
        MessagingError: It is none.
    """
    try:
        frame = json.loads(line)
    except ValueError as error:
        raise MessagingError("the sidecar said what makes no sense") from error
    if not isinstance(frame, dict):
        raise MessagingError("the sidecar said what makes no sense")
    return frame


def answered(frame: Frame) -> Frame:
    """The frame, unless it says what went wrong.

    Raises:
        MessagingError: It does.
    """
    if frame.get("op") == "error":
        raise MessagingError(str(frame.get("reason")))
    return frame


def message_in(frame: Frame) -> Message:
    """The message in a `message` or an `answer`."""
    payload = base64.b64decode(frame["payload"])
    return Message(frame["subject"], payload, frame.get("reply", ""))


def durables_in(frame: Frame) -> list[DurableMessage]:
    """The messages in a `fetched`."""
    return [
        DurableMessage(
            each["subject"], base64.b64decode(each["payload"]), each["token"], each["deliveries"]
        )
        for each in frame["messages"]
    ]


def stored_in(frame: Frame) -> Stored:
    """What a `stored` says."""
    return Stored(frame["sequence"], frame["duplicate"])
