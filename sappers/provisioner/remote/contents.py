"""Contents that tasks write, by their digests: from the control machine, or downloaded here.

What is downloaded is in files without a name, so that nothing of it is left when the executor ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from sappers.provisioner.modules import step
from sappers.provisioner.remote import digests, files

LOADED_BYTES_MAX = 32 * 1024 * 1024


class Contents:
    """The contents of one task.

    Args:
        fetch: Brings a content from the control machine, chunk by chunk.
    """

    def __init__(self, fetch: Callable[[step.Blob], Iterator[bytes]]) -> None:
        self._fetch = fetch
        self._here: dict[str, Any] = {}

    def clear(self) -> None:
        """Forget what was downloaded."""
        for file in self._here.values():
            file.close()
        self._here.clear()

    def keep(self, chunks: Iterator[bytes], folder: str | None) -> tuple[step.Blob, str]:
        """Keep a content for this task; what it is called, and its MD5."""
        import hashlib  # takes long to load, and few tasks need it
        import tempfile

        folder = folder or tempfile.gettempdir()
        with files.naming(folder):
            # Unbuffered: what does not fit is refused when it is written, and not once more later.
            file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 — kept for the task
        digests = [hashlib.new(name) for name in ("sha256", "sha1", "md5")]
        size = 0
        try:
            for chunk in chunks:
                size += len(chunk)
                with files.naming(folder):
                    _write_all(file, chunk)
                for digest in digests:
                    digest.update(chunk)
        except BaseException:
            file.close()
            raise
        sha256, sha1, md5 = (digest.hexdigest() for digest in digests)
        earlier = self._here.pop(sha256, None)
        if earlier is not None:
            earlier.close()
        self._here[sha256] = file
        return step.Blob(sha256, sha1, size), md5

    def chunks(self, blob: step.Blob) -> Iterator[bytes]:
        """A content, chunk by chunk."""
        file = self._here.get(blob.sha256)
        if file is None:
            yield from self._fetch(blob)
            return
        file.seek(0)
        while True:
            chunk = file.read(files.CHUNK_BYTES)
            if not chunk:
                return
            yield chunk

    def load(self, blob: step.Blob) -> bytes:
        """A content as a whole. Raises Refused when it is too large for that."""
        if blob.size > LOADED_BYTES_MAX:
            raise files.Refused(f"it is larger than {LOADED_BYTES_MAX} bytes")
        return b"".join(self.chunks(blob))

    def digest(self, blob: step.Blob, algorithm: str) -> str:
        """Another digest of a content."""
        digest = digests.new(algorithm, blob.size)
        for chunk in self.chunks(blob):
            digest.update(chunk)
        return str(digest.hexdigest())

    def opened(self, source: str | step.Blob) -> Any:
        """A file, or a content, to read anywhere in it; the caller closes it."""
        if isinstance(source, str):
            return open(source, "rb")
        if source.sha256 not in self._here:
            self.keep(self._fetch(source), None)
        file = os.fdopen(os.dup(self._here[source.sha256].fileno()), "rb")
        file.seek(0)
        return file


def _write_all(file: Any, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
