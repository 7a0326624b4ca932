"""Frames between the control machine and the executor: two lengths, a JSON head, raw bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any, Dict, Tuple

HEADER = struct.Struct(">II")
HEAD_BYTES_MAX = 4 * 1024 * 1024
BODY_BYTES_MAX = 32 * 1024 * 1024


class ConnectionEnded(Exception):
    """Nobody is there any more: what runs is stopped, what is half written is removed."""


Frame = Tuple[Dict[str, Any], bytes]


def encode(head: dict[str, Any], body: bytes = b"") -> bytes:
    """One frame."""
    text = json.dumps(head).encode()
    return HEADER.pack(len(text), len(body)) + text + body


def decode(read: Callable[[int], bytes | None]) -> Frame | None:
    """The next frame, or None at the end of the stream.

    Args:
        read: Gives exactly as many bytes as asked for, or None at the end.

    Raises:
        ValueError: What comes is no frame.
    """
    header = read(HEADER.size)
    if header is None:
        return None
    head_length, body_length = HEADER.unpack(header)
    if head_length > HEAD_BYTES_MAX or body_length > BODY_BYTES_MAX:
        raise ValueError("a frame that is too long, or none")
    text = read(head_length)
    body = read(body_length) if body_length else b""
    if text is None or body is None:
        return None
    try:
        head = json.loads(text.decode())
    except RecursionError:
        raise ValueError("a head of more levels than any has") from None
    if not isinstance(head, dict):
        raise ValueError("a frame without a head")
    return head, body
