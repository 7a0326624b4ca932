"""Sweeping templates takes what is none, and leaves alone what is just being made."""

from __future__ import annotations

from pathlib import Path

from sappers.launchers.templates import TemplateFolder


def test_sweeping_leaves_what_is_being_made(tmp_path: Path) -> None:
    for name in (".making/0123/run", ".new-0123", "half", "no-text"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "no-text" / "template.json").write_bytes(b'{"key": "\xff"}')
    assert TemplateFolder(tmp_path).sweep(lambda _: True) == ("half", "no-text")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".making", ".new-0123"]
