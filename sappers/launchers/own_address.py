"""A clone's own MAC where the guest cannot set it: Nanos reads the card's at boot and keeps it.

So it is written over the template's, wherever that is in the clone's memory, while it stands still.
The memory is mapped privately: each place costs the clone one page, and the template stays as it
is. QEMU writes into a guest's memory for debuggers alone, so for a moment it is given one.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Mapping, Sequence

from sappers.errors import LaunchError
from sappers.launchers.command import TEMPLATE_MAC
from sappers.launchers.guest_folder import GuestFolder
from sappers.launchers.qmp import Monitor
from sappers.launchers.templates import Held

_SOCKET = "debug.sock"
_ANSWER_SECONDS = 5.0
_OK = b"+$OK#9a"


def forms(mac: str) -> tuple[bytes, bytes]:
    """A MAC as it is in memory: itself, and the half of an IPv6 address that is made of it."""
    plain = bytes.fromhex(mac.replace(":", ""))
    return plain, bytes((plain[0] ^ 2, *plain[1:3], 0xFF, 0xFE, *plain[3:]))


async def give_own_address(folder: GuestFolder, qemu: Monitor, held: Held, mac: str) -> None:
    """Make a restored machine that stands still have this MAC in place of its template's.

    Raises:
        LaunchError: Its memory has no trace of the template's, or QEMU does not write.
    """

    def find() -> dict[int, bytes]:
        pairs = zip(forms(TEMPLATE_MAC), forms(mac), strict=True)
        return {place: new for old, new in pairs for place in held.places(old)}

    changes = await asyncio.to_thread(find)
    if not changes:
        raise LaunchError("the template's MAC is nowhere in its memory")
    await write_memory(folder, qemu, changes)


async def write_memory(folder: GuestFolder, qemu: Monitor, changes: Mapping[int, bytes]) -> None:
    """Write into the memory of a machine that stands still.

    Args:
        changes: What, by physical address.

    Raises:
        LaunchError: QEMU does not.
    """
    await _debugger(qemu, f"unix:{_SOCKET},server=on,wait=off")
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            with await folder.connect(_SOCKET) as debugger:
                await _ask(debugger, ("Qqemu.PhyMemMode:1", *_writes(changes)))
    except (OSError, TimeoutError) as error:
        raise LaunchError(f"QEMU does not write into its guest's memory: {error}") from error
    finally:
        await _debugger(qemu, "none")


def _writes(changes: Mapping[int, bytes]) -> Iterator[str]:
    for place, content in changes.items():
        yield f"M{place:x},{len(content):x}:{content.hex()}"


async def _debugger(qemu: Monitor, where: str) -> None:
    await qemu.execute("human-monitor-command", **{"command-line": f"gdbserver {where}"})


async def _ask(debugger: socket.socket, packets: Sequence[str]) -> None:
    """Send packets of gdb's remote protocol, all at once; each is to be answered with OK."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(debugger, b"+".join(_packet(each.encode()) for each in packets))
    wanted, answer = _OK * len(packets), b""
    while len(answer) < len(wanted) and (more := await loop.sock_recv(debugger, len(wanted))):
        answer += more
    if answer != wanted:
        raise OSError(f"it answers {answer[:40]!r}")


def _packet(content: bytes) -> bytes:
    return b"$%s#%02x" % (content, sum(content) % 256)
