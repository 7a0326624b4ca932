"""An image's way from the members to this machine: from several at a time, each chunk from one
that has it. What is here already is not fetched, so a killed pull goes on where it was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from sappers.api.chunk_calls import ChunkCalls
from sappers.api.chunk_work import move_chunks
from sappers.api.https_calls import Peer
from sappers.api.image_calls import ImageCalls
from sappers.api.image_push import chunk_sizes
from sappers.api.operator_client import OperatorClient
from sappers.api.ways import ask_all
from sappers.errors import ApiError, ImageError
from sappers.model.chunks_here import ChunksHere
from sappers.model.image import Manifest, SignedManifest

ROUNDS_MAX = 5


class ChunkSink(Protocol):
    """Where images of this machine go; it believes nothing that comes."""

    def put_signed(self, signed: SignedManifest) -> str:
        """Keep a manifest; its digest. Raises ImageUntrusted, ImageError."""

    def manifest(self, digest: str) -> Manifest | None:
        """What it says."""

    def missing_chunks(self, digest: str) -> tuple[str, ...]:
        """Chunks that are not here."""

    def write_chunk(self, chunk: str, frame: bytes) -> None:
        """Keep a chunk. Raises ImageError when it is not what its digest says, or does not fit."""


class PullWatcher(Protocol):
    """Who shows a pull while it goes on. `fetched` is called in several threads."""

    def fetching(self, content_bytes: int) -> None:
        """So much is to be fetched."""

    def fetched(self, content_bytes: int) -> None:
        """So much of it is here."""


class Pulled(msgspec.Struct, frozen=True):
    """A pull that is over; every chunk is here, and was checked.

    Attributes:
        chunks: How many the image has.
        chunks_fetched: How many of them came now.
    """

    name: str
    digest: str
    chunks: int
    chunks_fetched: int


def pull_image(
    client: OperatorClient, sink: ChunkSink, digest: str, watcher: PullWatcher
) -> Pulled:
    """Fetch what is not here of an image.

    Raises:
        ImageUntrusted: Nobody whom this machine trusts signed it.
        ImageError: No member has a chunk; the disk is full.
        ApiError: No member answers, or none gives anything.
    """
    calls = ImageCalls(client)
    signed = calls.signed(digest)
    if sink.put_signed(signed) != digest:
        raise ImageError(f"the members gave another image for {digest[:12]}")
    manifest = sink.manifest(digest)
    assert manifest is not None
    at_first = lacking = sink.missing_chunks(digest)
    sizes = chunk_sizes(manifest)
    watcher.fetching(sum(sizes[chunk] for chunk in lacking))
    for _ in range(ROUNDS_MAX):
        if not lacking:
            break
        before = lacking
        given_up = _fetch(client, calls, sink, manifest, digest, lacking, sizes, watcher)
        lacking = sink.missing_chunks(digest)
        if lacking == before and given_up:
            raise next(iter(given_up.values()))
    if lacking:
        raise ImageError(
            f"image {manifest.name}: no member gives {len(lacking)} of its chunks",
            hint="run it again; what is here is kept",
        )
    return Pulled(manifest.name, digest, len(manifest.chunks()), len(at_first))


def _fetch(
    client: OperatorClient,
    calls: ImageCalls,
    sink: ChunkSink,
    manifest: Manifest,
    digest: str,
    lacking: Sequence[str],
    sizes: Mapping[str, int],
    watcher: PullWatcher,
) -> Mapping[Peer, ApiError]:
    """One round with those members that answer now; those that were given up, and why."""
    answers = ask_all(client.everyone(), lambda one: calls.chunks_at(one, digest))
    holders: dict[Peer, Collection[str]] = {
        member.peer: here.chunks(manifest.chunks())
        for member, here in answers.items()
        if isinstance(here, ChunksHere)
    }
    chunk_calls = ChunkCalls(client.identity)

    def move(member: Peer, chunk: str) -> None:
        frame = chunk_calls.get(member, chunk)
        try:
            sink.write_chunk(chunk, frame)
        except ImageError as error:
            if isinstance(error.__cause__, OSError):
                raise  # this machine's disk
            raise ApiError(f"{member.name}: {error.message}", status=502) from error
        watcher.fetched(sizes[chunk])

    try:
        return move_chunks(lacking, list(holders), move, holders=holders)
    finally:
        chunk_calls.close()
