"""What the control machine asks a cluster about images, one function a call."""

from __future__ import annotations

import hashlib

import msgspec

from sappers.api.operator_client import OperatorClient
from sappers.api.problems import decoded
from sappers.api.ways import Reached
from sappers.api.wire import ImageKeys, Images, WantedImageKey, Warmed, Written
from sappers.errors import ApiError
from sappers.model.chunks_here import ChunksHere
from sappers.model.image import ImageKey, SignedManifest

WARM_SECONDS = 300.0
NO_SUCH_IMAGE = 404


class ImageCalls:
    """A cluster's images and the keys that it trusts. All raise as `OperatorClient.call`."""

    def __init__(self, client: OperatorClient) -> None:
        self.client = client

    def images(self) -> Images:
        """All images, and how much the member in use has of each."""
        return decoded(self.client.call("GET", "/v1/images"), Images)

    def signed(self, digest: str) -> SignedManifest:
        """The manifest of this digest; who signed it is not checked."""
        signed = decoded(self.client.call("GET", f"/v1/images/{digest}"), SignedManifest)
        if hashlib.sha256(signed.manifest).hexdigest() != digest:
            raise ApiError(f"the member gave another manifest than that of image {digest[:12]}")
        return signed

    def put(self, digest: str, signed: SignedManifest) -> Written:
        """Let the cluster keep an image; its chunks may follow."""
        content = msgspec.json.encode(signed)
        return decoded(self.client.call("PUT", f"/v1/images/{digest}", content=content), Written)

    def remove(self, digest: str) -> Written:
        """Let the cluster keep an image no more. Refused while something uses it."""
        return decoded(self.client.call("DELETE", f"/v1/images/{digest}"), Written)

    def keys(self) -> ImageKeys:
        """Whose images the cluster runs."""
        return decoded(self.client.call("GET", "/v1/image-keys"), ImageKeys)

    def trust(self, key: ImageKey) -> Written:
        """Run images that this key signed."""
        content = msgspec.json.encode(WantedImageKey(key.owner))
        answer = self.client.call("PUT", f"/v1/image-keys/{key.key}", content=content)
        return decoded(answer, Written)

    def distrust(self, key: str) -> Written:
        """Run what only this key signed no more. The last key cannot go."""
        return decoded(self.client.call("DELETE", f"/v1/image-keys/{key}"), Written)

    # -- at one member -----------------------------------------------------------------------------

    def images_at(self, member: Reached) -> Images:
        """All images, and how much this member has of each."""
        return decoded(self.client.call_at(member, "GET", "/v1/images"), Images)

    def chunks_at(self, member: Reached, digest: str) -> ChunksHere | None:
        """Which chunks this member has; None when it does not know the image."""
        try:
            answer = self.client.call_at(member, "GET", f"/v1/images/{digest}/chunks")
        except ApiError as error:
            if error.status == NO_SUCH_IMAGE:
                return None
            raise
        return decoded(answer, ChunksHere)

    def put_at(self, member: Reached, digest: str, signed: SignedManifest) -> Written:
        """As `put`, at this member."""
        content = msgspec.json.encode(signed)
        answer = self.client.call_at(member, "PUT", f"/v1/images/{digest}", content=content)
        return decoded(answer, Written)

    def warm_at(self, member: Reached, digest: str) -> Warmed:
        """Make the template that guests of this image start from, at this member."""
        path = f"/v1/images/{digest}/warm"
        return decoded(
            self.client.call_at(member, "POST", path, timeout_seconds=WARM_SECONDS), Warmed
        )
