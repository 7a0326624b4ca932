"""The root of an appliance: what decides what is in it, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from sappers.images.appliance_root import Archive, build_root

# Hands out its own environment for a root; the file is named before its sources and its mode.
TELL = """#!/bin/sh
while [ $# -gt 3 ]; do shift; done
env > "$1"
"""


def test_nothing_of_the_callers_environment_reaches_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "mmdebstrap").write_text(TELL)
    (programs / "mmdebstrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PERL5LIB", "TZ", "SECRET"):
        monkeypatch.setenv(name, "the caller's")
    build_root(("hello",), Archive(()), tmp_path / "made" / "root.tar", tmp_path)
    told = (tmp_path / "made" / "root.tar").read_text()
    assert "the caller's" not in told
    assert "https_proxy=http://127.0.0.1:9" in told
