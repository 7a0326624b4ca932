"""Images over the API: what the cluster keeps, what of it is here, manifests, chunks, keys.

A chunk is at most a mebibyte, so it goes in one piece; a member holds few of them in memory at a
time, as slots for sending and the threads that store them are few.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sappers.api.call import PROPOSE_TIMEOUT_SECONDS, Call
from sappers.api.wire import (
    ChunksQuery,
    HeldImage,
    ImageKeys,
    Images,
    NoInput,
    WantedImageKey,
    Warmed,
    Written,
)
from sappers.errors import ApiError, CommandRefused, ImageError
from sappers.model.chunks_here import ChunksHere
from sappers.model.commands import (
    Command,
    DistrustImageKey,
    PutImage,
    RemoveImage,
    TrustImageKey,
)
from sappers.model.image import ClusterImage, ImageKey, SignedManifest
from sappers.ports import Applied

_SHOWN = 12


async def images(call: Call) -> Images:
    """GET /v1/images."""
    state = call.service.log.state()
    found = []
    for image in sorted(state.images.values(), key=lambda one: (one.name, -one.pushed_at)):
        here, chunks = call.service.images.held(image.digest)
        why_not = call.service.images.why_not(image.digest)
        found.append(HeldImage(image, chunks, here, why_not))
    return Images(state.index, tuple(found))


async def get_image(call: Call) -> SignedManifest:
    """GET /v1/images/{digest}."""
    signed = await call.service.images.signed(call.path.digest)
    if signed is None:
        raise _no_image(call)
    return signed


async def put_image(call: Call) -> Written:
    """PUT /v1/images/{digest}: kept here first, then agreed on, so that somebody surely has it."""
    digest: str = call.path.digest
    manifest = await call.service.images.accept(digest, call.body)
    status = call.service.log.status()
    if digest in call.service.log.state().images:
        return Written(status.applied_index, status.term)
    image = ClusterImage(manifest.name, digest, manifest.kind, manifest.size_bytes, call.now)
    return await _write(call, PutImage(image))


async def delete_image(call: Call) -> Written:
    """DELETE /v1/images/{digest}."""
    if call.path.digest not in call.service.log.state().images:
        raise ApiError(
            f"no image {call.path.digest[:_SHOWN]}",
            status=404,
            hint="sappers-deploy image ls lists them",
        )
    hint = "end what it names first: sappers-deploy stop NAME"
    return await _write(call, RemoveImage(call.path.digest), hint)


async def image_chunks(call: Call) -> ChunksHere:
    """GET /v1/images/{digest}/chunks."""
    query: ChunksQuery = call.query
    here = await call.service.images.chunks_here(call.path.digest, query.seen, query.wait_seconds)
    if here is None:
        raise _no_image(call)
    return here


async def warm_image(call: Call) -> Warmed:
    """POST /v1/images/{digest}/warm: on this member; it answers when that is done."""
    return Warmed(await call.service.images.warm(call.path.digest))


async def get_chunk(call: Call) -> Response:
    """GET /v1/chunks/{digest}: the slot is free again when the last byte is on its way."""
    async with AsyncExitStack() as slot:
        await slot.enter_async_context(call.service.images.uploading())
        frame = await call.service.images.give_chunk(call.path.digest)
        if frame is None:
            raise ApiError(
                f"no chunk {call.path.digest[:_SHOWN]} on {call.service.me.name}", status=404
            )
        return _ChunkResponse(frame, slot.pop_all())
    raise AssertionError("the block returns or raises")


async def put_chunk(call: Call) -> NoInput:
    """PUT /v1/chunks/{digest}: the store checks the content before it keeps it."""
    try:
        await call.service.images.accept_chunk(call.path.digest, call.body)
    except ImageError as error:
        if isinstance(error.__cause__, OSError):  # the disk's fault, and not the caller's
            raise ApiError(error.message, status=507, hint=error.hint) from error
        raise
    return NoInput()


async def image_keys(call: Call) -> ImageKeys:
    """GET /v1/image-keys."""
    state = call.service.log.state()
    return ImageKeys(state.index, state.image_keys)


async def put_image_key(call: Call) -> Written:
    """PUT /v1/image-keys/{key}."""
    wanted: WantedImageKey = call.body
    return await _write(call, TrustImageKey(ImageKey(call.path.key, wanted.owner)))


async def delete_image_key(call: Call) -> Written:
    """DELETE /v1/image-keys/{key}."""
    if all(known.key != call.path.key for known in call.service.log.state().image_keys):
        raise ApiError(f"no image key {call.path.key[:_SHOWN]}", status=404)
    return await _write(call, DistrustImageKey(call.path.key))


async def _write(call: Call, command: Command, hint_if_refused: str | None = None) -> Written:
    applied: Applied = await call.service.propose(call.proposal(command), PROPOSE_TIMEOUT_SECONDS)
    if applied.refused:
        raise CommandRefused(applied.refused, hint=hint_if_refused)
    return Written(applied.index, applied.term)


def _no_image(call: Call) -> ApiError:
    name = call.service.me.name
    return ApiError(f"no trusted image {call.path.digest[:_SHOWN]} on {name}", status=404)


class _ChunkResponse(Response):
    """A chunk, and the slot that it is sent in."""

    media_type = "application/octet-stream"

    def __init__(self, frame: bytes, slot: AsyncExitStack) -> None:
        super().__init__(frame)
        self._slot = slot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it, and wait until the connection has taken nearly all."""
        async with self._slot:
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            await send({"type": "http.response.body", "body": self.body, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
