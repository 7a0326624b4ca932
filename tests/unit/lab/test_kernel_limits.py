from __future__ import annotations

from pathlib import Path

from sappers.lab.kernel_limits import raise_limits


def test_a_limit_is_raised_and_never_lowered(tmp_path: Path) -> None:
    limit = tmp_path / "max_user_instances"
    limit.write_text("128\n")
    raise_limits(limit)
    raised = int(limit.read_text())
    assert raised >= 150 * 10
    limit.write_text("1000000\n")
    raise_limits(limit)
    assert int(limit.read_text()) == 1_000_000


def test_where_there_is_no_such_limit_nothing_happens(tmp_path: Path) -> None:
    raise_limits(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []
