"""When an image is whole on members: each has all its chunks, every one checked as it came."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import msgspec

from benchmarks.rig import Rig
from sappers.errors import ApiError
from sappers.model.chunks_here import ChunksHere

DEADLINE_SECONDS = 600.0
_LOOK_SECONDS = 0.2
# The end is what counts, so it is looked for more often.
_NEAR_END, _LOOK_NEAR_END_SECONDS = 0.9, 0.02


class Arrivals:
    """Watches members, one thread each, from its making on.

    Attributes:
        whole_at: `time.monotonic` when each host was seen to have all chunks.
    """

    def __init__(self, rig: Rig, hosts: Sequence[str], digest: str, chunks: int) -> None:
        self._rig = rig
        self._path = f"/v1/images/{digest}/chunks"
        self._chunks = chunks
        self._deadline = time.monotonic() + DEADLINE_SECONDS
        self.whole_at: dict[str, float] = {}
        self._threads = [
            threading.Thread(target=self._watch, args=(host,), daemon=True) for host in hosts
        ]
        for thread in self._threads:
            thread.start()

    def wait(self) -> float:
        """When the last host was whole, by `time.monotonic`."""
        for thread in self._threads:
            thread.join()
        if len(self.whole_at) < len(self._threads):
            raise RuntimeError(f"the image is whole on {sorted(self.whole_at)} only")
        return max(self.whole_at.values())

    def _watch(self, host: str) -> None:
        with self._rig.client(host) as client:
            while time.monotonic() < self._deadline:
                try:
                    answer = client.call("GET", self._path)
                    count = msgspec.json.decode(answer, type=ChunksHere).count
                except ApiError:  # it has not heard of the image yet
                    count = 0
                if count >= self._chunks:
                    self.whole_at[host] = time.monotonic()
                    return
                near = count >= _NEAR_END * self._chunks
                time.sleep(_LOOK_NEAR_END_SECONDS if near else _LOOK_SECONDS)
