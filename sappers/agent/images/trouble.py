"""Why an image is not coming to this member."""

from __future__ import annotations

import msgspec


class Trouble(msgspec.Struct, frozen=True):
    """One reason, for a person.

    Attributes:
        text: Without the image's name.
        hopeless: Waiting will not help on this host.
    """

    text: str
    hopeless: bool = False
