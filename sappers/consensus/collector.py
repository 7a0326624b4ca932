"""Python's collector of cycles, set for processes that hold a large replicated state."""

from __future__ import annotations

import gc


def spare_large_states(*, seldom: int) -> None:
    """Let it look at little at a time, and at all that there is seldom.

    Nothing in a state is part of a cycle, and to look through a large one takes as long as an
    election. Python's own settings do that whenever it has grown by a quarter.

    Args:
        seldom: After so many times 4,000 more objects.
    """
    gc.set_threshold(2_000, 1, seldom)
