from __future__ import annotations

from pathlib import Path

import pytest

from sappers.agent.me import load_node_id
from sappers.errors import ConfigError


def test_an_id_belongs_to_its_disk(tmp_path: Path) -> None:
    path = tmp_path / "state" / "node-id"
    first = load_node_id(path, "lab1", None)
    assert first.startswith("lab1-")
    assert load_node_id(path, "renamed", None) == first
    with pytest.raises(ConfigError, match="--node-id says other"):
        load_node_id(path, "lab1", "other")


def test_a_given_id_is_kept(tmp_path: Path) -> None:
    assert load_node_id(tmp_path / "node-id", "lab1", "node1") == "node1"
    assert load_node_id(tmp_path / "node-id", "lab1", None) == "node1"


@pytest.mark.parametrize("content", ["", "UPPER", "a b", "../x", "x" * 70])
def test_a_damaged_id_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "node-id").write_text(content)
    with pytest.raises(ConfigError, match="is no id"):
        load_node_id(tmp_path / "node-id", "lab1", None)
