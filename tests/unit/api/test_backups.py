"""Pieces of a backup over the API: what no voter would take does not come into the log."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import msgspec

from sappers.api.wire import Problem, WantedRestore
from sappers.model.backup import RESTORED_BYTES_MAX
from sappers.model.commands import FoundCluster, RestorePiece
from tests.fake_member import FakeMember
from tests.unit.api.test_cordon_calls import ask
from tests.unit.worlds import commit


async def test_a_bomb_is_refused_before_its_last_piece_is_proposed(tmp_path: Path) -> None:
    member = FakeMember("n1", tmp_path)
    content = zlib.compress(bytes(RESTORED_BYTES_MAX + 1), 9)
    digest = hashlib.sha256(content).hexdigest()
    member.log.current, _ = commit(member.log.current, FoundCluster("c1", ("n1",)))
    first = RestorePiece(digest, 0, 2, content[:100])
    member.log.current, outcome = commit(member.log.current, first)
    assert not outcome.refused
    before = member.log.current
    body = msgspec.json.encode(WantedRestore(1, 2, content[100:]))
    answer = await ask(member, "operator", "PUT", f"/v1/restore/{digest}", body)
    problem = msgspec.json.decode(answer, type=Problem)
    assert (problem.status, "too large" in problem.error) == (409, True)
    assert member.log.current is before
