"""Who makes room, of those who connect and have not shown a certificate yet.

Who has one is done with that within milliseconds, and who does not may stay for seconds. So the
longest wait is the best sign of who has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def who_makes_room(
    waiting: Sequence[str], newcomer: str, *, each_max: int, all_max: int
) -> int | None:
    """Whose connection is closed for a new one: an index into `waiting`; None while there is room.

    Args:
        waiting: Addresses they come from, the longest wait first.
        newcomer: The address of the new one.
        each_max: So many may wait of one address. Beyond, it pays with its own oldest.
        all_max: So many may wait in all. Beyond, an address that has the most pays.
    """
    own = [index for index, address in enumerate(waiting) if address == newcomer]
    if len(own) >= each_max:
        return own[0]
    if len(waiting) < all_max:
        return None
    counts = Counter(waiting)
    most = max(counts.values())
    return next(index for index, address in enumerate(waiting) if counts[address] == most)
