from __future__ import annotations

from pathlib import Path

import pytest

from sappers.api.client import HttpPeerClient
from sappers.errors import MemberUnreachable
from tests.identities import make_cluster_identities
from tests.unit.worlds import member


async def test_a_revoked_member_is_not_called(tmp_path: Path) -> None:
    client = HttpPeerClient(make_cluster_identities(tmp_path, ["a"])["a"])
    client.is_revoked = lambda member_id: member_id == "m2"
    with pytest.raises(MemberUnreachable, match="m2 is revoked"):
        await client.call(member(2), "GET", "/v1/quorum", timeout_seconds=1)
    await client.close()
