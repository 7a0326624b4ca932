"""A cordon: an operator wants nothing new on a member, or nothing at all."""

from __future__ import annotations

import msgspec


class Cordon(msgspec.Struct, frozen=True):
    """Closes a member until the operator opens it again.

    Attributes:
        drain: What is on it moves away, too.
        since: Unix time in seconds.
    """

    drain: bool
    since: float

    @property
    def word(self) -> str:
        """For a person."""
        return "drained" if self.drain else "cordoned"
