"""A host cannot become another member by saying so."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sappers.errors import HostUnfit
from sappers.model.member import Ports
from sappers.provisioner.node_ids import NodeIds
from sappers.provisioner.phases.identity import Identity
from sappers.provisioner.plan import ClusterPlan


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


def test_nothing_is_signed_for_an_id_of_another_host():
    said = {"/var/lib/sappers/node-id": b"lab1-0a1b2c\n"}
    host = SimpleNamespace(
        name="lab2",
        check=False,
        executor=SimpleNamespace(read_file=said.get),
        ensure_folder=lambda path, mode: None,
    )
    phase = Identity(ClusterPlan("lab", (), Ports()), None, NodeIds({"lab1-0a1b2c": "lab1"}), None)
    with pytest.raises(HostUnfit, match="that is lab1"):
        phase.run(host)
