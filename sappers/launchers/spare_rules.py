"""Which guest may be given a spare, and when there is one: pure."""

from __future__ import annotations

import msgspec

from sappers.launchers import command
from sappers.launchers.templates import KEPT_SECONDS

QUIET_SECONDS = 2.0  # others may be about to start, and the guest that did is still busy
# What stays free on the host when a spare has been made, and while there is one.
_FREE_MIB, _SHORT_MIB = 512, 256


class Outlook(msgspec.Struct, frozen=True):
    """What is known when a spare is thought of.

    Attributes:
        unused_seconds: Since a guest was last started from the template.
        quiet_seconds: Since anything was last started on this host.
        available_mib: Memory that the host could give away.
        memory_mib: Of the guest that the spare may become.
    """

    unused_seconds: float
    quiet_seconds: float
    available_mib: int
    memory_mib: int


def keeps_spare(outlook: Outlook) -> bool:
    """Whether one that is there stays: while its template is in use and memory is not short."""
    return outlook.unused_seconds < KEPT_SECONDS and outlook.available_mib >= _SHORT_MIB


def makes_spare(outlook: Outlook) -> bool:
    """Whether one is made now: nobody is held up by it, and it is not given back at once."""
    room = outlook.available_mib >= outlook.memory_mib + _FREE_MIB
    return keeps_spare(outlook) and outlook.quiet_seconds >= QUIET_SECONDS and room


def fits(spare: command.GuestSpec, guest: command.GuestSpec, *, linked: bool) -> bool:
    """Whether a spare is what would be started for a guest.

    A spare keeps the user that it began as, and doors of links are open to the guest's own.

    Args:
        spare: What the spare was started as.
        guest: What the guest is to be.
        linked: Whether the guest has links to other services.
    """
    return not linked and _nobody(spare) == _nobody(guest)


def _nobody(spec: command.GuestSpec) -> tuple[str, ...]:
    """What is started for a guest, but whose it is."""
    user_id = None if spec.user_id is None else 0
    mac = command.TEMPLATE_MAC
    nobody = msgspec.structs.replace(spec, allocation_id="", mac=mac, user_id=user_id)
    return command.clone_command(nobody)
