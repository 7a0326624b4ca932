"""The file of the ports that guests were told."""

from __future__ import annotations

from pathlib import Path

import pytest

from sappers.agent.mesh import Mesh
from tests.unit.clocks import FixedClock


@pytest.mark.parametrize("torn", [b"", b"\0" * 100, b'{"a\xff": {}}', b"[]"])
def test_one_that_a_power_loss_tore_is_begun_again(tmp_path: Path, torn: bytes) -> None:
    book = tmp_path / "ports.json"
    book.write_bytes(torn)
    mesh = Mesh(book, FixedClock(), None, None)  # type: ignore[arg-type]  # it starts nothing
    assert mesh._known_ports() == {}
