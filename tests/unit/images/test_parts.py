"""The cache of parts."""

from __future__ import annotations

from pathlib import Path

from sappers.images.parts import Parts


def test_what_a_killed_build_left_is_swept_and_nothing_behind_a_link(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "cache", tmp_path / "runtime.lock")
    with parts.alone(), parts.scratch("killed") as folder:
        left = folder.parent / "left"
        left.mkdir()
    with parts.alone():
        assert not left.exists()
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "precious").mkdir(parents=True)
    left.parent.rmdir()
    left.parent.symlink_to(elsewhere)
    with parts.alone():
        assert (elsewhere / "precious").is_dir()
