"""The disk as consensus uses it, on a real file system."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from unittest.mock import patch

import pytest

from sappers.consensus.disk import LOCAL_DISK


def test_what_did_not_fit_takes_no_room(tmp_path: Path) -> None:
    """Else a snapshot that fills the disk would keep the journal from going on."""
    path = tmp_path / "snapshot"
    LOCAL_DISK.replace(path, b"whole")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            LOCAL_DISK.replace(path, bytes(256 * 1024))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"whole"


def test_what_the_kernel_takes_in_parts_is_written_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"begin ")
    whole = os.pwrite
    file = LOCAL_DISK.append(path)
    file.write(b"the first, ")
    file.write(b"the second")
    with patch("os.pwrite", lambda fd, data, at: whole(fd, data[:4], at)):
        file.sync()
    file.write(b", and what is not synced")
    file.close()
    assert path.read_bytes() == b"begin the first, the second, and what is not synced"
