"""What values of an operator may be: for the API, and for what a backup brings."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from sappers.model.event import Event
from sappers.model.image import ClusterImage, ImageKey
from sappers.model.workload import ImageReference, Workload, role_of

# `$` alone also matches before a newline at the end, which a URL can carry.
END = r"$(?!\n)"
_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_NAME = rf"^{_LABEL}" + END
LINKS_MAX = 32
COUNT_MAX = 10_000

WorkloadName = Annotated[str, Meta(pattern=_NAME, max_length=40)]
ServiceName = WorkloadName
AllocationId = Annotated[str, Meta(pattern=_NAME, max_length=60)]
MemberId = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?" + END, max_length=64)
]
ImageName = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?" + END, max_length=80)]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}" + END)]
Owner = Annotated[str, Meta(min_length=1, max_length=80, pattern=r"^[ -~]+" + END)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Index = Annotated[int, Meta(ge=0, le=2**53)]
MemoryMib = Annotated[int, Meta(ge=16, le=1024 * 1024)]
Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
Links = Annotated[tuple[ServiceName, ...], Meta(max_length=LINKS_MAX)]


class AllowedReference(ImageReference, frozen=True, forbid_unknown_fields=True):
    """An image by name and content, within the limits."""

    name: ImageName
    digest: Digest


class AllowedWorkload(Workload, frozen=True, forbid_unknown_fields=True):
    """A workload as an operator could have asked for it."""

    name: WorkloadName
    image: AllowedReference
    memory_mib: MemoryMib = 128
    guest_port: Port | None = None
    host_port: Port | None = None
    count: Count = 1
    revision: Index = 0
    service: Annotated[str, Meta(pattern=rf"^({_LABEL})?" + END, max_length=40)] = ""
    links: Links = ()

    def __post_init__(self) -> None:
        """Raises ValueError for guests that would have another's credentials."""
        if self.role != role_of(self.name, self.image.name):
            raise ValueError(f"workload {self.name} is no {self.role}")


class AllowedImage(ClusterImage, frozen=True, forbid_unknown_fields=True):
    """An image that the cluster may keep."""

    name: ImageName
    digest: Digest


class AllowedImageKey(ImageKey, frozen=True, forbid_unknown_fields=True):
    """A key that an operator could have trusted."""

    key: Digest
    owner: Owner


class AllowedEvent(Event, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An event, with fields of this version alone.

    What is unknown would be skipped, however deep it nests, and how deep is too deep is not the
    same on every member.
    """
