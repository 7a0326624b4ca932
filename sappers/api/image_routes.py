"""The routes of images, of their chunks, and of the keys that sign them; part of `routes`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sappers.api import images
from sappers.api.route import BYTES, OPERATORS, Route, commit, get, get_state, write
from sappers.api.wire import (
    ChunkPath,
    ChunksQuery,
    ImageKeyPath,
    ImageKeys,
    ImagePath,
    Images,
    NoInput,
    WantedImageKey,
    Warmed,
)
from sappers.model.chunks_here import ChunksHere
from sappers.model.image import FRAME_BYTES_MAX, SignedManifest

# In base64 one of 16 GiB has 1.5 MB.
MANIFEST_BODY_BYTES_MAX = 4 * 1024 * 1024

_IMAGE: Mapping[str, Any] = {"path_type": ImagePath}
_CHUNK: Mapping[str, Any] = {"path_type": ChunkPath}
_KEY: Mapping[str, Any] = {"path_type": ImageKeyPath, "roles": OPERATORS}

IMAGE_ROUTES: tuple[Route, ...] = (
    get_state("/v1/images", "The cluster's images", images.images, response=Images),
    get(
        "/v1/images/{digest}",
        "An image's signed manifest",
        images.get_image,
        **_IMAGE,
        response=SignedManifest,
        errors=(404,),
    ),
    commit(
        "PUT",
        "/v1/images/{digest}",
        "Keep an image on every member; it must be signed by a trusted key",
        images.put_image,
        **_IMAGE,
        body=SignedManifest,
        body_bytes_max=MANIFEST_BODY_BYTES_MAX,
        roles=OPERATORS,
        errors=(409, 413),
    ),
    commit(
        "DELETE",
        "/v1/images/{digest}",
        "Keep it no more",
        images.delete_image,
        **_IMAGE,
        roles=OPERATORS,
        errors=(404, 409),
    ),
    get(
        "/v1/images/{digest}/chunks",
        "Which chunks of an image are on this member",
        images.image_chunks,
        **_IMAGE,
        response=ChunksHere,
        query=ChunksQuery,
        errors=(404,),
    ),
    write(
        "POST",
        "/v1/images/{digest}/warm",
        "Make what lets guests of an image start quickly on this member",
        images.warm_image,
        **_IMAGE,
        response=Warmed,
        roles=OPERATORS,
        errors=(404, 409),
    ),
    get(
        "/v1/chunks/{digest}",
        "A chunk, compressed with zstd; 503 while too many are being sent",
        images.get_chunk,
        **_CHUNK,
        media=BYTES,
        errors=(404, 503),
    ),
    write(
        "PUT",
        "/v1/chunks/{digest}",
        "Store a chunk that an image on this member needs; it must match its digest",
        images.put_chunk,
        **_CHUNK,
        response=NoInput,
        body=bytes,
        body_bytes_max=FRAME_BYTES_MAX,
        body_media=BYTES,
        roles=OPERATORS,
        errors=(413, 507),
    ),
    get_state("/v1/image-keys", "Whose images may run", images.image_keys, response=ImageKeys),
    commit(
        "PUT",
        "/v1/image-keys/{key}",
        "Run what this key signed",
        images.put_image_key,
        **_KEY,
        body=WantedImageKey,
        errors=(409,),
    ),
    commit(
        "DELETE",
        "/v1/image-keys/{key}",
        "Run no more what this key alone signed; the last key stays",
        images.delete_image_key,
        **_KEY,
        errors=(404, 409),
    ),
)
