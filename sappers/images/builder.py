"""What every image builder looks like from outside; `assembly.deploy` has one for each kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

Definition = TypeVar("Definition", contravariant=True)

Report = Callable[[str], None]
"""Told the step that begins, a few words for people: `fetching packages`, `booting the disk`."""


class Builder(Protocol[Definition]):
    """Builds images of one kind into a store. The store, the signing key and the folder of its
    cache are parameters of the constructor."""

    def build(
        self, name: str, definition: Definition, folder: Path, report: Report
    ) -> tuple[str, bool]:
        """Build, sign and store an image, unless the same inputs were built before.

        Args:
            name: What the image is stored as; the definition's name, or `NAME-KIND` where the
                kind is not the definition's first.
            definition: What to build, read and checked.
            folder: Where the definition and the files that it names are.
            report: Told each step as it begins.

        Returns:
            The image's digest, and whether anything had to be built.

        Raises:
            ImageError: It cannot be built; nothing half done is left in the store.
        """
