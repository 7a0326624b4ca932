"""Files of images, streamed: a member never holds a whole one in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from starlette.responses import Response, StreamingResponse

from sappers.api.call import Call
from sappers.api.wire import NoInput
from sappers.errors import ApiError

CHUNK_BYTES = 1024 * 1024
BLOB_BYTES_MAX = 16 * 1024**3


async def get_blob(call: Call) -> Response:
    """GET /v1/blobs/{digest}."""
    file, size = await asyncio.to_thread(_open, _path(call))
    return StreamingResponse(
        _chunks(file),
        media_type="application/octet-stream",
        headers={"content-length": str(size), "etag": f'"{call.path.digest}"'},
    )


async def head_blob(call: Call) -> Response:
    """HEAD /v1/blobs/{digest}."""
    path = _path(call)
    headers = {"content-length": str(path.stat().st_size), "etag": f'"{call.path.digest}"'}
    return Response(media_type="application/octet-stream", headers=headers)


async def put_blob(call: Call) -> NoInput:
    """PUT /v1/blobs/{digest}: the store checks the content before it keeps it."""
    if call.content_length is None:
        raise ApiError("a blob needs a Content-Length", status=411)
    if call.content_length > BLOB_BYTES_MAX:
        raise ApiError(f"a blob has at most {BLOB_BYTES_MAX} bytes", status=413)
    if not call.service.images.blob_path(call.path.digest).is_file():
        await call.service.images.add(call.path.digest, call.body_chunks())
    return NoInput()


def _path(call: Call) -> Path:
    path = call.service.images.blob_path(call.path.digest)
    if not path.is_file():
        raise ApiError(f"no blob {call.path.digest} on {call.service.me.name}", status=404)
    return path


def _open(path: Path) -> tuple[BinaryIO, int]:
    file = path.open("rb")
    return file, path.stat().st_size


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
