"""The C library's memory, set for a process that works hard for seconds and rests for days.

An image of 65 MB that comes through a dozen threads leaves 15 MB of free memory with the process
otherwise. Settings by which all is returned at once double the time that an image costs the kernel.
"""

from __future__ import annotations

import contextlib
import ctypes

_M_ARENA_MAX = -8  # of mallopt(3)
_ARENAS = 2  # little is gained by more: Python's own lock lets threads take turns


def keep_few_arenas() -> None:
    """Have all threads take memory from the same two places; before there are any threads."""
    with contextlib.suppress(AttributeError):  # only glibc has it, and more than one
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def give_back_free_memory() -> None:
    """Return to the system what has been freed; takes a millisecond or two."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
