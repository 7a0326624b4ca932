"""Collecting an image: what this member lacks comes from other members, verified by content."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from sappers.errors import ApiError, ImageError
from sappers.model.member import Member, MemberState
from sappers.ports import ImageStore, PeerClient

log = structlog.get_logger(__name__)


async def collect_image(
    digest: str,
    *,
    me_id: str,
    images: ImageStore,
    peers: PeerClient,
    members: Callable[[], Sequence[Member]],
) -> None:
    """Fetch an image's missing blobs, its manifest first, from whichever member has them.

    Raises:
        ImageError: Nobody alive has one of them.
    """
    while missing := images.missing(digest):
        for blob in missing:
            await _collect_blob(blob, me_id=me_id, images=images, peers=peers, members=members())


async def _collect_blob(
    digest: str, *, me_id: str, images: ImageStore, peers: PeerClient, members: Sequence[Member]
) -> None:
    others = [m for m in members if m.id != me_id and m.state is MemberState.ALIVE]
    failures: list[str] = []
    for member in others:
        try:
            await images.add(digest, peers.stream(member, f"/v1/blobs/{digest}"))
        except (ApiError, ImageError) as error:  # its copy may be damaged; the next one's is not
            failures.append(f"{member.name}: {error.message}")
            continue
        log.info("blob collected", digest=digest, source=member.id)
        return
    raise ImageError(
        f"no member has blob {digest[:12]}: {'; '.join(failures) or 'no other member is alive'}",
        hint="push the image again: sappers-deploy run, or bootstrap",
    )
