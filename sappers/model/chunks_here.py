"""Which chunks of an image a member has, as members tell each other: a bitmap."""

from __future__ import annotations

from collections.abc import Container, Sequence

import msgspec


class ChunksHere(msgspec.Struct, frozen=True):
    """Which chunks of an image the answering member has.

    Attributes:
        have: Base64 of a bitmap over `Manifest.chunks()`: bit `i % 8` (1 is the lowest) of byte
            `i // 8` stands for the chunk at place `i`.
        count: How many bits are set; the next question's `seen`.
    """

    have: bytes
    count: int

    def chunks(self, order: Sequence[str]) -> frozenset[str]:
        """The chunks themselves, of all those of the manifest, in its order."""
        # What another member says may be of any length: no more of it is looked at than is meant.
        have = self.have[: (len(order) + 7) // 8]
        known = order[: 8 * len(have)]
        return frozenset(
            chunk for place, chunk in enumerate(known) if have[place // 8] >> place % 8 & 1
        )


def chunks_here(order: Sequence[str], have: Container[str]) -> ChunksHere:
    """What to say of an image whose chunks are `order`, by a member that has those in `have`."""
    places = [place for place, chunk in enumerate(order) if chunk in have]
    bits = bytearray((len(order) + 7) // 8)
    for place in places:
        bits[place // 8] |= 1 << place % 8
    return ChunksHere(bytes(bits), len(places))
