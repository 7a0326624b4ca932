"""An image's way from this machine to the members: each chunk once, to whichever member is free.

Invariant: an upload counts once a member has confirmed it, and the push is over only when living
members have every chunk. So it may be killed at any moment and goes on where it was, and a member
that dies takes nothing with it: what it alone had is sent again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from sappers.api.chunk_calls import ChunkCalls
from sappers.api.chunk_work import move_chunks
from sappers.api.https_calls import Peer
from sappers.api.image_calls import ImageCalls
from sappers.api.operator_client import OperatorClient
from sappers.api.ways import Reached, ask_all
from sappers.errors import ApiError, ImageError, SappersError
from sappers.model.chunks_here import ChunksHere
from sappers.model.image import CHUNK_BYTES, Manifest, SignedManifest, build_command

# Chunks that disappear again and again: some member accepts what it does not keep.
ROUNDS_MAX = 5
STALL_SECONDS = 60.0
REFUSED = 400
POLL_SECONDS = 0.1
POLL_MAX_SECONDS = 1.0
# Without progress for so long, members are asked what keeps them.
ASK_WHY_SECONDS = 2.0


class ChunkSource(Protocol):
    """Images of this machine."""

    def signed(self, digest: str) -> SignedManifest | None:
        """The signed manifest, or None when it is not here or nobody trusted signed it."""

    def manifest(self, digest: str) -> Manifest | None:
        """The same, without its signatures."""

    def read_unchecked(self, chunk: str) -> bytes | None:
        """The frame, or None when it is not here; the member that gets it checks it."""

    def read_chunk(self, chunk: str) -> bytes | None:
        """The frame, or None when it is not here or was damaged."""


class MemberShare(msgspec.Struct, frozen=True):
    """How much of an image a member has.

    Attributes:
        chunks: Of `of`.
        reason: What keeps the rest away, or empty.
    """

    name: str
    chunks: int
    of: int
    reason: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether it has everything."""
        return self.chunks >= self.of


class PushWatcher(Protocol):
    """Who shows a push while it goes on. `sent` is called in several threads."""

    def sending(self, content_bytes: int) -> None:
        """So much more is to be sent."""

    def sent(self, content_bytes: int) -> None:
        """So much of it was confirmed."""

    def spread(self, members: Sequence[MemberShare]) -> None:
        """How far the members are."""


class Pushed(msgspec.Struct, frozen=True):
    """A push that is over.

    Attributes:
        chunks: How many the image has.
        chunks_sent: How many this machine sent.
        sent_bytes: How much that was, compressed.
        members: How far they were at the end.
    """

    name: str
    digest: str
    chunks: int
    chunks_sent: int
    sent_bytes: int
    members: tuple[MemberShare, ...]


class SpreadStalled(SappersError):
    """Members have all of an image together, but one of them does not get further with it."""


class ImagePush:
    """One image on its way to one cluster.

    Args:
        client: The cluster's.
        source: Where the image is.
        watcher: Told what goes on.
        wait: Whether every member must have it whole in the end.
        stall_seconds: How long to wait for members that get no further.
    """

    def __init__(
        self,
        client: OperatorClient,
        source: ChunkSource,
        watcher: PushWatcher,
        *,
        wait: bool = True,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._calls = ImageCalls(client)
        self._client = client
        self._source = source
        self._watcher = watcher
        self._wait = wait
        self._stall_seconds = stall_seconds
        self._counting = threading.Lock()
        self._chunks_sent = 0
        self._bytes_sent = 0

    def push(self, digest: str) -> Pushed:
        """Send what the members lack, and see it spread.

        Raises:
            ImageError: The image is not here, or damaged.
            SpreadStalled: A member does not get further; the cluster goes on trying.
            ApiError: No member answers, or none takes the image; says why.
        """
        signed, manifest = self._source.signed(digest), self._source.manifest(digest)
        if signed is None or manifest is None:
            raise ImageError(
                f"image {digest[:12]} is not here, or its manifest is damaged",
                hint="see sappers-deploy image ls",
            )
        self._calls.put(digest, signed)
        order, sizes = manifest.chunks(), chunk_sizes(manifest)
        members = self._client.everyone()
        rounds, moved_at, before, pause = 0, time.monotonic(), -1, POLL_SECONDS
        while True:
            held = self._look(members, digest, signed)
            lacking = _held_by_none(order, held)
            if lacking and rounds < ROUNDS_MAX:
                rounds += 1
                self._send(manifest, lacking, sizes, list(held))
                moved_at = time.monotonic()
                continue
            total = sum(one.count for one in held.values())
            if total != before:
                moved_at, before, pause = time.monotonic(), total, POLL_SECONDS
            stalled_seconds = time.monotonic() - moved_at
            shares = self._shares(members, held, digest, len(order), stalled_seconds)
            self._watcher.spread(shares)
            if not lacking and (not self._wait or all(one.is_whole for one in shares)):
                return self._pushed(manifest.name, digest, len(order), shares)
            if stalled_seconds > self._stall_seconds:
                raise _stalled(manifest.name, shares, stalled_seconds)
            time.sleep(pause)
            pause = min(1.5 * pause, POLL_MAX_SECONDS)
            if stalled_seconds > ASK_WHY_SECONDS:
                members = self._client.everyone()  # one may have died or moved

    def _look(
        self, members: Sequence[Reached], digest: str, signed: SignedManifest
    ) -> Mapping[Reached, ChunksHere]:
        """What each member that answers has. One that has not heard of the image is told."""

        def ask(member: Reached) -> ChunksHere:
            here = self._calls.chunks_at(member, digest)
            if here is None:
                self._calls.put_at(member, digest, signed)
                here = self._calls.chunks_at(member, digest)
            return here or ChunksHere(b"", 0)

        answers = ask_all(members, ask)
        held = {one: here for one, here in answers.items() if isinstance(here, ChunksHere)}
        if not held:
            raise next(one for one in answers.values() if isinstance(one, ApiError))
        return held

    def _send(
        self,
        manifest: Manifest,
        lacking: Sequence[str],
        sizes: Mapping[str, int],
        members: Sequence[Reached],
    ) -> None:
        self._watcher.sending(sum(sizes[chunk] for chunk in lacking))
        before = self._chunks_sent
        calls = ChunkCalls(self._client.identity)

        def move(member: Peer, chunk: str) -> None:
            frame = self._source.read_unchecked(chunk)
            if frame is None:
                raise _damaged_here(manifest.name, chunk)
            try:
                calls.put(member, chunk, frame)
            except ApiError as error:
                if error.status == REFUSED and self._source.read_chunk(chunk) is None:
                    raise _damaged_here(manifest.name, chunk) from error
                raise
            with self._counting:
                self._chunks_sent += 1
                self._bytes_sent += len(frame)
            self._watcher.sent(sizes[chunk])

        try:
            given_up = move_chunks(lacking, [one.peer for one in members], move)
        finally:
            calls.close()
        if self._chunks_sent == before and given_up:
            raise _nobody_takes(manifest.name, given_up)

    def _shares(
        self,
        members: Sequence[Reached],
        held: Mapping[Reached, ChunksHere],
        digest: str,
        of: int,
        stalled_seconds: float,
    ) -> tuple[MemberShare, ...]:
        late = [one for one in members if one not in held or held[one].count < of]
        why: Mapping[Reached, str | ApiError] = {}
        if stalled_seconds > ASK_WHY_SECONDS:
            why = ask_all(late, lambda one: self._reason(one, digest))
        return tuple(
            MemberShare(one.name, held[one].count if one in held else 0, of, _text(why.get(one)))
            for one in members
        )

    def _reason(self, member: Reached, digest: str) -> str:
        images = self._calls.images_at(member).images
        return next((one.reason for one in images if one.image.digest == digest), "")

    def _pushed(
        self, name: str, digest: str, chunks: int, shares: tuple[MemberShare, ...]
    ) -> Pushed:
        return Pushed(name, digest, chunks, self._chunks_sent, self._bytes_sent, shares)


def chunk_sizes(manifest: Manifest) -> Mapping[str, int]:
    """Length of each chunk's content."""
    sizes: dict[str, int] = {}
    for blob in manifest.blobs():
        for place, chunk in enumerate(blob.chunks):
            sizes[chunk] = min(CHUNK_BYTES, blob.size_bytes - place * CHUNK_BYTES)
    return sizes


def _held_by_none(order: Sequence[str], held: Mapping[Reached, ChunksHere]) -> tuple[str, ...]:
    somewhere: set[str] = set()
    for here in held.values():
        somewhere |= here.chunks(order)
    return tuple(chunk for chunk in order if chunk not in somewhere)


def _text(reason: str | ApiError | None) -> str:
    return reason.message if isinstance(reason, ApiError) else reason or ""


def _damaged_here(name: str, chunk: str) -> ImageError:
    return ImageError(
        f"image {name}: chunk {chunk[:12]} is missing or damaged here",
        hint=build_command(name),
    )


def _nobody_takes(name: str, given_up: Mapping[Peer, ApiError]) -> ApiError:
    reasons = tuple(dict.fromkeys(error.message for error in given_up.values()))
    first = next(iter(given_up.values()))
    return ApiError(
        f"no member takes image {name}: {'; '.join(reasons)}", status=first.status, hint=first.hint
    )


def _stalled(name: str, shares: Sequence[MemberShare], seconds: float) -> SpreadStalled:
    late = "; ".join(
        f"{one.name} has {one.chunks} of {one.of} chunks"
        + (f" ({one.reason})" if one.reason else "")
        for one in shares
        if not one.is_whole
    )
    return SpreadStalled(
        f"image {name}: no progress for {seconds:.0f} s: {late or 'chunks get lost'}",
        hint="the members go on trying: sappers-deploy image ls --cluster NAME shows how far",
    )
