"""What the state machine does with images and with the keys that they are signed by. Pure.

Invariant: what a workload wants or a member may be running is among the images, so that every
member keeps it; and once a cluster trusts a key, it never trusts none.
"""

from __future__ import annotations

import msgspec

from sappers.consensus.step import Happened, Step
from sappers.errors import CommandRefused
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import (
    DistrustImageKey,
    ImageCommand,
    PutImage,
    RemoveImage,
    TrustImageKey,
)
from sappers.model.image import DIGEST_SHOWN, ClusterImage, ImageKey
from sappers.model.workload import Workload


def apply_image_command(state: ClusterState, command: ImageCommand) -> Step:
    """One command about images or keys.

    Raises:
        CommandRefused: It would take away what is in use, or makes no sense.
    """
    match command:
        case PutImage(image=image):
            return _put_image(state, image)
        case RemoveImage(digest=digest):
            return _remove_image(state, digest)
        case TrustImageKey(key=key):
            return _trust_image_key(state, key)
        case DistrustImageKey(key=key):
            return _distrust_image_key(state, key)


def _put_image(state: ClusterState, image: ClusterImage) -> Step:
    """Keep an image; one that is kept already stays as it is."""
    if image.digest in state.images:
        return state, ()
    text = (
        f"image {image.name} ({image.digest[:DIGEST_SHOWN]}) is to be on every member: "
        f"{image.kind}, {image.size_bytes / 1e6:.1f} MB"
    )
    return (
        msgspec.structs.replace(state, images=state.images.set(image.digest, image)),
        (Happened("image.added", image.digest, text, follows=()),),
    )


def _remove_image(state: ClusterState, digest: str) -> Step:
    """Keep an image no more, unless something runs it, or may."""
    image = state.images.get(digest)
    if image is None:
        raise CommandRefused(f"no image {digest[:DIGEST_SHOWN]}")
    users = [w.name for _, w in sorted(state.workloads.items()) if w.image.digest == digest]
    users += [
        a.id
        for _, a in sorted(state.allocations.items())
        if a.image.digest == digest and not a.status.is_terminal
    ]
    if users:
        raise CommandRefused(f"image {image.name} is in use: {', '.join(users)}")
    text = f"image {image.name} ({digest[:DIGEST_SHOWN]}) is kept no more"
    return (
        msgspec.structs.replace(state, images=state.images.delete(digest)),
        (Happened("image.removed", digest, text, follows=()),),
    )


def require_image(state: ClusterState, workload: Workload) -> None:
    """Raises CommandRefused for a workload that could never start."""
    wanted = workload.image
    image = state.images.get(wanted.digest)
    if image is None:
        raise CommandRefused(
            f"the cluster has no image {wanted.name} ({wanted.digest[:DIGEST_SHOWN]})"
        )
    if image.kind == "appliance":
        raise CommandRefused(f"image {image.name} is an appliance: it becomes a host, not a guest")


def _trust_image_key(state: ClusterState, key: ImageKey) -> Step:
    """Launch what this key signed; a key that is known may get another owner."""
    if key in state.image_keys:
        return state, ()
    others = tuple(one for one in state.image_keys if one.key != key.key)
    keys = tuple(sorted((*others, key), key=lambda one: one.key))
    return msgspec.structs.replace(state, image_keys=keys), (trusted(key),)


def trusted(key: ImageKey, *causes: str) -> Happened:
    """That images of a key may be launched now."""
    text = f"images signed by {key.owner} ({key.key[:DIGEST_SHOWN]}) are trusted"
    return Happened("image-key.trusted", key.key, text, follows=causes)


def _distrust_image_key(state: ClusterState, key: str) -> Step:
    """Launch no more what only this key signed; one key stays."""
    known = next((one for one in state.image_keys if one.key == key), None)
    if known is None:
        raise CommandRefused(f"no image key {key[:DIGEST_SHOWN]}")
    others = tuple(one for one in state.image_keys if one is not known)
    if not others:
        raise CommandRefused(
            f"image key {key[:DIGEST_SHOWN]} is the last one: without it nothing could be launched"
        )
    text = f"images signed by {known.owner} ({key[:DIGEST_SHOWN]}) alone are trusted no more"
    return (
        msgspec.structs.replace(state, image_keys=others),
        (Happened("image-key.distrusted", key, text, follows=()),),
    )
