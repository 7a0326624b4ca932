"""Manifests that this member lacks, asked of other members and believed only when signed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import msgspec
import structlog

from sappers.agent.images.image_threads import ImageThreads
from sappers.agent.images.trouble import Trouble
from sappers.errors import ApiError, ImageError, ImageUntrusted
from sappers.model.image import SignedManifest
from sappers.model.known_types import UNREADABLE
from sappers.model.member import Member
from sappers.model.workload import ImageReference
from sappers.ports import Clock, ImageStore, PeerClient
from sappers.reasons import Reasons

CALL_SECONDS = 10.0
AGAIN_SECONDS = 0.5
AGAIN_SECONDS_MAX = 15.0

log = structlog.get_logger(__name__)


class ManifestSearch:
    """Asks for each manifest by turns, with growing waits while nobody has it."""

    def __init__(
        self,
        *,
        store: ImageStore,
        peers: PeerClient,
        candidates: Callable[[str], Iterable[Member]],
        clock: Clock,
        threads: ImageThreads,
    ) -> None:
        self._store = store
        self._peers = peers
        self._candidates = candidates
        self._clock = clock
        self._threads = threads
        self._running: set[str] = set()
        self._waits: dict[str, tuple[float, float]] = {}
        self._troubles: dict[str, Reasons] = {}  # by digest, then by member

    def is_due(self, digest: str) -> bool:
        """Whether nobody is being asked now, and the last time is long enough ago."""
        due, _ = self._waits.get(digest, (0.0, 0.0))
        return digest not in self._running and self._clock.monotonic() >= due

    def forget(self, digest: str) -> None:
        """It is here, or wanted no more."""
        self._waits.pop(digest, None)
        self._troubles.pop(digest, None)

    async def search(self, image: ImageReference) -> Trouble | None:
        """None once it is in the store, else why it is not."""
        self._running.add(image.digest)
        try:
            trouble = Trouble("no other member that answers has its manifest")
            try:
                for member in self._candidates(image.digest):
                    found = await self._ask(image, member)
                    if found is None:
                        self.forget(image.digest)
                        return None
                    if found.text:
                        trouble = found
            except ImageError as error:  # the disk's fault, whoever sends it
                trouble = Trouble(error.message, hopeless=True)
                self._say("image not stored", image, "", error.message)
            _, before = self._waits.get(image.digest, (0.0, 0.0))
            delay = min(2 * before or AGAIN_SECONDS, AGAIN_SECONDS_MAX)
            self._waits[image.digest] = (self._clock.monotonic() + delay, delay)
            return trouble
        finally:
            self._running.discard(image.digest)

    async def _ask(self, image: ImageReference, member: Member) -> Trouble | None:
        """None when it is in the store now; a trouble without text when this member has it not.

        Raises:
            ImageError: This host's disk refuses it.
        """
        path = f"/v1/images/{image.digest}"
        try:
            answer = await self._peers.call(member, "GET", path, timeout_seconds=CALL_SECONDS)
            signed = msgspec.json.decode(answer, type=SignedManifest)
            if hashlib.sha256(signed.manifest).hexdigest() != image.digest:
                raise ImageError(f"{member.name} sent another manifest than was asked for")
            await self._threads.run(self._store.put_signed, signed)
        except ApiError as error:
            return Trouble("" if error.status == 404 else error.message)
        except ImageUntrusted as error:
            self._say("image refused", image, member.name, error.explained)
            return Trouble(error.explained, hopeless=True)
        except (ImageError, *UNREADABLE) as error:
            if isinstance(error.__cause__, OSError):
                raise
            self._say("manifest refused", image, member.name, str(error))
            return Trouble(f"its manifest was refused: {error}")
        return None

    def _say(self, event: str, image: ImageReference, member: str, error: str) -> None:
        """Log it once, however often it is asked for again."""
        if self._troubles.setdefault(image.digest, Reasons()).is_new(member, error):
            log.warning(event, image=image.name, member=member, error=error)
