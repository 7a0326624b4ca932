"""What people call images: a name, a digest, or the beginning of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated

import typer

from sappers.api.wire import HeldImage
from sappers.errors import ImageError
from sappers.model.image import build_command

PREFIX_MIN = 8
ImageName = Annotated[
    str,
    typer.Argument(
        metavar="NAME|DIGEST", help=f"An image; {PREFIX_MIN} digits of its digest are enough."
    ),
]
_DIGITS = re.compile(rf"[0-9a-f]{{{PREFIX_MIN},64}}")


def local_digest(named: Mapping[str, str], text: str) -> str:
    """The digest of an image of this machine.

    Args:
        named: Digests by name.
        text: What somebody typed.

    Raises:
        ImageError: No image, or more than one, is called so.
    """
    if text in named:
        return named[text]
    found = _by_digest(text, set(named.values()))
    if found is None:
        known = ", ".join(named) or "none"
        raise ImageError(
            f"no image is called {text}; there are: {known}",
            hint="sappers-deploy image ls shows what there is"
            if _DIGITS.fullmatch(text)
            else build_command(text),
        )
    return found


def cluster_image(images: Iterable[HeldImage], text: str) -> HeldImage:
    """An image of the cluster; of several with one name, the one that was pushed last.

    Raises:
        ImageError: No image, or more than one digest, is called so.
    """
    by_digest = {one.image.digest: one for one in images}
    named = [one for one in by_digest.values() if one.image.name == text]
    if named:
        return max(named, key=lambda one: (one.image.pushed_at, one.image.digest))
    found = _by_digest(text, by_digest)
    if found is None or found not in by_digest:
        known = ", ".join(sorted({one.image.name for one in by_digest.values()})) or "none"
        raise ImageError(
            f"the cluster has no image {text}; it has: {known}",
            hint=f"sappers-deploy image push {text}",
        )
    return by_digest[found]


def one_of_name(images: Iterable[HeldImage], text: str) -> HeldImage:
    """As `cluster_image`, for what cannot be undone: a name must mean one image.

    Raises:
        ImageError: No image, or more than one, is called so.
    """
    known = tuple(images)
    found = cluster_image(known, text)
    same = sorted(one.image.digest[:12] for one in known if one.image.name == text)
    if len(same) > 1:
        raise ImageError(
            f"{text} is the name of {len(same)} images of the cluster: {', '.join(same)}",
            hint="name one by its digest",
        )
    return found


def _by_digest(text: str, digests: Iterable[str]) -> str | None:
    """The one digest that begins so, or a whole one although nobody knows it."""
    if not _DIGITS.fullmatch(text):
        return None
    found = sorted(digest for digest in digests if digest.startswith(text))
    if len(found) > 1:
        several = ", ".join(digest[: len(text) + 4] for digest in found)
        raise ImageError(f"{text} is the beginning of several digests: {several}")
    if found:
        return found[0]
    return text if len(text) == 64 else None
