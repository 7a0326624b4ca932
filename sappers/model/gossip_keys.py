"""The keys that gossip is sealed with, and in which order a cluster takes on another one."""

from __future__ import annotations

from typing import Annotated

import msgspec

KEYS_MAX = 8  # a rotation has two; each one that was broken off leaves one more

GossipKey = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9+/]{43}=\Z")]


class GossipKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a member seals with, first, and what else it opens. Secret.

    In a file it is one key a line.
    """

    keys: Annotated[tuple[GossipKey, ...], msgspec.Meta(min_length=1, max_length=KEYS_MAX)]

    def __repr__(self) -> str:
        return "GossipKeys(…)"

    @property
    def text(self) -> str:
        """As it stands in a file."""
        return "".join(f"{key}\n" for key in self.keys)


def parse_gossip_keys(text: str) -> GossipKeys:
    """The keys of a file.

    Raises:
        msgspec.ValidationError: There is none, or one is damaged; says nothing of what it is.
    """
    return msgspec.convert({"keys": text.split()}, GossipKeys)


def rings_to(before: GossipKeys, new: str) -> tuple[GossipKeys, ...]:
    """What all members are given, one after the other, until they have the new key alone.

    Two members may be one ring apart, and understand each other: what one seals with, the other
    opens. So each ring must be everywhere before the next. A rotation that was broken off is made
    again with another new key: whatever is in `before`, its first key is everywhere.
    """
    return (
        GossipKeys((*before.keys, new)),
        GossipKeys((new, *before.keys)),
        GossipKeys((new,)),
    )
