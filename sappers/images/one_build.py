"""One build at a time in a cache: others of its kind wait, and say so."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from sappers.images.builder import Report
from sappers.images.files import entries


@contextlib.contextmanager
def one_build(
    cache: Path, lock: str, scratch: Path, report: Report = lambda _: None
) -> Iterator[None]:
    """A build that is alone in its scratch folder; what a killed one left there is swept first."""
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (cache / lock).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting until another build is done")
            fcntl.flock(file, fcntl.LOCK_EX)
        for left in entries(scratch, cache):
            shutil.rmtree(left, ignore_errors=True)
        yield
