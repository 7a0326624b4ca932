"""A workload: what the operator wants run."""

from __future__ import annotations

from typing import Literal

import msgspec

# What a guest is for, and so what its credentials of the hub allow.
Role = Literal["application", "monitor"]
MONITOR = "monitor"  # the workload
MONITOR_IMAGES = frozenset({"monitor", "monitor-nanos"})  # a micro-VM, a unikernel


def role_of(workload: str, image: str) -> Role:
    """What a workload is for, by its name and its image's: an operator need not say so."""
    return "monitor" if workload == MONITOR and image in MONITOR_IMAGES else "application"


class ImageReference(msgspec.Struct, frozen=True):
    """An image by name and by content.

    Attributes:
        name: What people call it.
        digest: SHA-256 of the image's manifest, 64 hex digits.
    """

    name: str
    digest: str


class Workload(msgspec.Struct, frozen=True):
    """What the operator wants run; desired state only.

    Attributes:
        name: Unique in the cluster; letters, digits and `-`.
        image: What to run.
        memory_mib: Memory of each guest.
        guest_port: Port the application listens on inside the guest, or None.
        host_port: Port to publish it at on the member, or None for the same number.
        count: How many allocations.
        cold: Each guest boots from the beginning, never from a template.
        revision: Raised by the state machine when anything but `count` and `service` changes; old
            copies are replaced.
        role: What its guests are for; a monitor hears all guests, and its alerts count.
        service: Name in Consul and at the gateway; empty for the workload's own, see
            `service_name`.
        links: Services that it may call: what its guests' credentials and the mesh allow.
        exclusive: Never more than `count` guests of it run at once, whatever fails: another is
            started only when it is certain that the one before has ended.
        private: Its port is published to its members' own mesh proxies, and to nobody else.
    """

    name: str
    image: ImageReference
    memory_mib: int = 128
    guest_port: int | None = None
    host_port: int | None = None
    count: int = 1
    revision: int = 0
    cold: bool = False
    role: Role = "application"
    service: str = ""
    links: tuple[str, ...] = ()
    exclusive: bool = False
    private: bool = False

    @property
    def service_name(self) -> str:
        """What others find it by."""
        return self.service or self.name
