"""Images: the store of a member, and where it gets what it lacks."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from sappers.model.chunks_here import ChunksHere
from sappers.model.image import Manifest, SignedManifest
from sappers.model.member import Member


class ImageStore(Protocol):
    """Images by content on this machine (`images/`); nothing untrusted or damaged comes out.

    All of it may read or write the disk: call it from threads. Whatever takes a digest raises
    `ImageError` where it is none.
    """

    def signed(self, digest: str) -> SignedManifest | None:
        """The signed manifest; None when it is not here, damaged, or signed by nobody trusted."""

    def manifest(self, digest: str) -> Manifest | None:
        """As `signed`: what is signed."""

    def put_signed(self, signed: SignedManifest) -> str:
        """Store a manifest; the image's digest.

        Raises:
            ImageUntrusted: No trusted key signed it.
            ImageError: It makes no sense; the disk is full.
        """

    def missing_chunks(self, digest: str) -> tuple[str, ...]:
        """Chunks of an image that are not here, in the order of first use; nothing is read.

        Raises:
            ImageError: There is no manifest, or (`ImageUntrusted`) nobody trusted signed it.
        """

    def has_chunk(self, chunk: str) -> bool:
        """Whether a chunk is here; one that a crash has torn counts until it is read."""

    def read_chunk(self, chunk: str) -> bytes | None:
        """A chunk as it travels, a zstd frame; None when it is not here or was damaged."""

    def write_chunk(self, chunk: str, frame: bytes) -> None:
        """Store a chunk as somebody sent it.

        Raises:
            ImageError: The frame is not of this chunk; the disk is full.
        """

    def assemble(self, digest: str) -> Manifest:
        """Make every file of an image whole and verified, from its chunks where need be.

        Raises:
            ImageIncomplete: Chunks are missing, or were damaged and are dropped.
            ImageError: There is no manifest, or (`ImageUntrusted`) nobody trusted signed it; the
                disk is full.
        """

    def recheck(self, digest: str, wanted: Collection[str] | None = None) -> tuple[str, ...]:
        """Hash the files of an image that are put together, though this process may have before.

        Args:
            digest: The image's.
            wanted: Digests of those of its files that are meant; all if not given.

        Returns:
            Digests of those that did not match and are removed: `assemble` makes them anew.

        Raises:
            ImageError: There is no manifest, or (`ImageUntrusted`) nobody trusted signed it.
        """

    def blob_path(self, digest: str) -> Path:
        """Where a file of an image is once it is assembled; shared: link it, change nothing."""

    def verify(self, digest: str) -> None:
        """Read all that is here of an image again; what is damaged is removed.

        Raises:
            ImageIncomplete: Chunks are missing, or were damaged and are dropped.
            ImageError: As `assemble`; a file was damaged and is removed.
        """

    def prune(self, keep: Collection[str], *, spare_seconds: float = 0.0) -> tuple[str, ...]:
        """Remove what no image in `keep` (manifest digests) needs; digests of all removed.

        Args:
            keep: Digests of manifests.
            spare_seconds: Images whose manifest is younger stay.

        Raises:
            ImageError: Others have been writing for too long; the disk refuses.
        """

    def holding(self) -> AbstractContextManager[None]:
        """A block in which nothing is pruned."""


class ChunkSource(Protocol):
    """Fetches chunks from other members over blocking sockets (`api/`); for threads."""

    def get(self, member: Member, chunk: str) -> bytes:
        """A chunk's frame as it came, not checked.

        Raises:
            ApiError: The member answered an error (its status) or did not answer (status 0).
        """


class ImageFigures(msgspec.Struct, frozen=True):
    """What images have cost a member since its agent started.

    Attributes:
        bytes_fetched: Frames that came from other members and were stored.
        bytes_received: Frames that an operator sent and were stored.
        bytes_sent: Frames that went to others.
        chunks_damaged: Frames that came and did not match.
        uploads_refused: Calls for a chunk that were told to come later.
        whole: How many of the wanted images are whole here.
        wanted: How many this member is to have.
    """

    bytes_fetched: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    chunks_damaged: int = 0
    uploads_refused: int = 0
    whole: int = 0
    wanted: int = 0


class MemberImages(Protocol):
    """The images on this member, as others see and feed them (`agent/`)."""

    def held(self, digest: str) -> tuple[int, int]:
        """How many chunks are here, of how many; (0, 0) while that is not known."""

    def why_not(self, digest: str) -> str:
        """Why an image is not whole here, or empty."""

    def figures(self) -> ImageFigures:
        """What images have cost so far."""

    async def signed(self, digest: str) -> SignedManifest | None:
        """The signed manifest; None when it is not here, damaged, or signed by nobody trusted."""

    async def accept(self, digest: str, signed: SignedManifest) -> Manifest:
        """Keep a manifest; its chunks are accepted, and fetched, from now on.

        Raises:
            ImageUntrusted: No trusted key signed it.
            ImageError: It is another image's, or makes no sense; the disk is full.
        """

    async def chunks_here(self, digest: str, seen: int, wait_seconds: float) -> ChunksHere | None:
        """Which chunks are here; None without a manifest.

        With `wait_seconds` the answer waits, but not longer, until there are not `seen` of them.
        """

    async def accept_chunk(self, chunk: str, frame: bytes) -> None:
        """Keep a chunk that an image whose manifest is here needs.

        Raises:
            ImageError: None needs it; it is damaged; the disk is full.
        """

    def uploading(self) -> AbstractAsyncContextManager[None]:
        """A slot for sending one chunk, for the block.

        Raises:
            MemberBusy: There is none, and none comes free soon.
        """

    async def give_chunk(self, chunk: str) -> bytes | None:
        """A chunk's frame, once the bandwidth allows it to go; None when it is not here."""

    async def warm(self, digest: str) -> str:
        """Have what lets guests of an image start quickly; what happened, for a person.

        Raises:
            ImageError: The image is not whole here.
            SappersError: It cannot be had; says why.
        """
