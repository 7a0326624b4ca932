"""Who tried what the hub does not allow, by the server's own log: a client may say anything."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from sappers.hub.server_folder import open_log

# The server has verified the user's public key. The client's own name stands before it, quoted with
# every quote inside it escaped, so that it cannot pass for this.
_VIOLATION = re.compile(
    rb'/jwt:(U[A-Z2-7]{55})" - (?:(?:Publish|Subscription) Violation|maximum [a-z ]+ exceeded)',
    re.I,
)
_READ_BYTES_MAX = 256 * 1024
_USERS_MAX = 64


class ViolationLog:
    """Reads on in the log of this member's nats-server, from where it is when this begins."""

    def __init__(self, log_file: Path) -> None:
        self._path = log_file
        self._offset = self._size()

    def new(self) -> Mapping[str, int]:
        """Violations since the last call, by the public key of the user; at least so many.

        A log that grows faster than it is read is not read whole.
        """
        size = self._size()
        if size < self._offset:  # the server began a new file
            self._offset = 0
        if size == self._offset:
            return {}
        self._offset = max(self._offset, size - _READ_BYTES_MAX)
        try:
            with open_log(self._path) as file:
                file.seek(self._offset)
                content = file.read(size - self._offset)
        except OSError:
            return {}
        whole = content.rfind(b"\n") + 1
        self._offset += whole
        found = Counter(user.decode() for user in _VIOLATION.findall(content[:whole]))
        return dict(found.most_common(_USERS_MAX))

    def _size(self) -> int:
        try:
            return self._path.lstat().st_size
        except OSError:
            return 0
