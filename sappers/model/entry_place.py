"""Where an entry of the replicated log is, and which of two is the newer one."""

from __future__ import annotations

import msgspec


class EntryPlace(msgspec.Struct, frozen=True):
    """Where an entry of the log is.

    Attributes:
        term: 0 where it is not known.
    """

    index: int
    term: int = 0

    def is_after(self, other: EntryPlace) -> bool:
        """Whether it is newer than another one; the index alone tells that of one log.

        After `raft recover` other entries, in later terms, have indexes of those that were given
        up.
        """
        if self.term and other.term:
            return (self.term, self.index) > (other.term, other.index)
        return self.index > other.index
