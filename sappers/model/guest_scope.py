"""What a guest is to the hub: who it is, and whom it may talk to."""

from __future__ import annotations

import msgspec

from sappers.model.workload import Role


class GuestScope(msgspec.Struct, frozen=True):
    """What a guest's credentials are made for.

    Attributes:
        allocation_id: Who it is.
        workload: Whose copy it is.
        links: Workloads whose services it may call.
        role: A monitor hears all guests' health and all events, and raises alerts.
    """

    allocation_id: str
    workload: str
    links: tuple[str, ...] = ()
    role: Role = "application"
