"""Text of hosts and guests for a terminal: it is shown, and steers nothing."""

from __future__ import annotations

_KEPT = "\n\t"
_CONTROL_CODES = {code: "�" for code in (*range(32), *range(127, 160)) if chr(code) not in _KEPT}


def harmless(text: str) -> str:
    """The text without control codes; lines stay lines."""
    return text.replace("\r\n", "\n").translate(_CONTROL_CODES)
