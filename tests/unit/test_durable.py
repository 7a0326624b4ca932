"""What must survive a crash is on the disk before it has its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sappers.durable import keep_durably


def test_what_is_kept_is_on_the_disk_before_it_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, place = tmp_path / "made", tmp_path / "kept" / "kernel"
    made.mkdir()
    (made / "vmlinux").write_bytes(b"kernel")
    place.parent.mkdir()
    found: list[bool] = []
    sync = os.sync

    def seen() -> None:
        found.append(place.exists())
        sync()

    monkeypatch.setattr(os, "sync", seen)
    keep_durably(made, place)
    assert found == [False]
    assert (place / "vmlinux").read_bytes() == b"kernel"
    assert not made.exists()
