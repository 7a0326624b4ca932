"""What a guest is known by on its host, whatever runs it. Pure."""

from __future__ import annotations

import hashlib
import zlib

from sappers.config import GUEST_USER_IDS

SERIAL_LOG = "serial.log"
CONTROL_SOCKET = "control.sock"
HOST_SEEN_BY_GUEST = "10.0.2.2"


def user_id_for(allocation_id: str) -> int:
    """A user of its own for each guest, that no other program on the host has."""
    return GUEST_USER_IDS[zlib.crc32(allocation_id.encode()) % len(GUEST_USER_IDS)]


def mac_for(allocation_id: str) -> str:
    """A locally administered MAC address that no other guest has."""
    own = hashlib.sha256(b"mac:" + allocation_id.encode()).digest()[:6]
    return ":".join(f"{byte:02x}" for byte in (own[0] & 0xFC | 0x02, *own[1:]))
