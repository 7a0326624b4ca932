"""What hosts and guests say, for a terminal: it is shown, and steers nothing."""

from __future__ import annotations

from datetime import datetime

_LAST_SHOWN = 253_370_764_800.0  # the beginning of the year 9999

# With halves of characters, which stand for bytes that are no text: no terminal takes them.
CONTROL_CODES = dict.fromkeys((*range(32), *range(127, 160), *range(0xD800, 0xE000)), "�")
_ALL_BUT_LINES = {code: mark for code, mark in CONTROL_CODES.items() if chr(code) not in "\n\t"}


def harmless(text: str) -> str:
    """The text without control codes; lines stay lines."""
    return text.replace("\r\n", "\n").translate(_ALL_BUT_LINES)


def local_time(seconds: float) -> datetime:
    """When that was, here; a clock that says what no date is has said the first or the last one.

    Args:
        seconds: Unix time.
    """
    return datetime.fromtimestamp(min(max(seconds, 0.0), _LAST_SHOWN)).astimezone()
