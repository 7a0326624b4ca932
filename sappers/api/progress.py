"""What one person has written: no answer that they get afterwards is older than that."""

from __future__ import annotations

import threading
from collections.abc import Mapping

INDEX_HEADER = "sappers-index"
"""Of an answer to a write: its log index. Of a call that reads: how new the state must be."""


class Progress:
    """The newest log index that was written. Threads, and several clients, may share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._index = 0

    def wrote(self, headers: Mapping[str, str]) -> None:
        """Note what an answer's headers say of the log."""
        said = headers.get(INDEX_HEADER, "")
        if said.isdecimal():
            with self._lock:
                self._index = max(self._index, int(said))

    def headers(self) -> Mapping[str, str]:
        """What a call that reads asks for."""
        return {INDEX_HEADER: str(self._index)} if self._index else {}
