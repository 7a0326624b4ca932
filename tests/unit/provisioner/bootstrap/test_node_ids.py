"""A host cannot become another member by saying so."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sappers.errors import HostUnfit
from sappers.provisioner.bootstrap.node_ids import NodeIds
from sappers.provisioner.bootstrap.settled import look_at


def test_an_id_has_one_host():
    ids = NodeIds({"a-0a1b2c": "a"})
    ids.claim("a-0a1b2c", "a")
    ids.claim("b-0a1b2c", "b")
    ids.claim("b-0a1b2c", "b")
    for taken, owner in (("a-0a1b2c", "a"), ("b-0a1b2c", "b")):
        with pytest.raises(HostUnfit, match=f"that is {owner}"):
            ids.claim(taken, "evil")


@pytest.mark.parametrize(
    "node_id", ["A-0A1B2C", "a-0a1b2c.", "a/../b", "a?b", "*.sappers", "a\nb", "é", "x" * 64]
)
def test_what_could_pass_for_another_id_is_none(node_id):
    with pytest.raises(HostUnfit, match="is no node id"):
        NodeIds({}).claim(node_id, "evil")


def test_a_host_with_the_id_of_another_is_refused_before_anything_is_done():
    said = {"/var/lib/sappers/node-id": b"lab1-0a1b2c\n"}
    executor = SimpleNamespace(read_file=said.get)
    with pytest.raises(HostUnfit, match="that is lab1"):
        look_at("lab2", executor, "lab", NodeIds({"lab1-0a1b2c": "lab1"}))
