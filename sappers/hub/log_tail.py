"""What nats-server logs from a moment on, whole lines, however much that is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from sappers.hub.server_folder import open_log


class LogTail:
    """Reads on in a log from where it ends now; nothing is missed when the server begins a new one.

    The file is kept open, so that it is read to its end after it was renamed or removed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest = b""
        self._file = self._open()
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Read no more."""
        if self._file is not None:
            self._file.close()

    def new(self) -> bytes:
        """The whole lines since the last call; none while there is no log.

        Raises:
            OSError: The log cannot be read.
        """
        following = self._following()  # before the rest is read: the server writes one at a time
        said = self._rest + (b"" if self._file is None else self._file.read())
        if following is not None:
            self.close()
            self._file = following
            said += following.read()
        whole = said.rfind(b"\n") + 1
        self._rest = said[whole:]
        return said[:whole]

    def _open(self) -> BinaryIO | None:
        try:
            return open_log(self._path)
        except FileNotFoundError:
            return None

    def _following(self) -> BinaryIO | None:
        """The log that the server began since, if it did."""
        newest = self._open()
        if newest is None or self._file is None:
            return newest
        if os.path.sameopenfile(newest.fileno(), self._file.fileno()):
            newest.close()
            if os.fstat(self._file.fileno()).st_size < self._file.tell():
                self._file.seek(0)  # emptied in its place
            return None
        return newest
