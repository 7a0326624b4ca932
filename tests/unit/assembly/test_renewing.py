"""The agent is told of certificates that were replaced on disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sappers.assembly import agent
from sappers.security.authority import create_authority
from sappers.security.renewal import Renewal
from tests.identities import make_cluster_identities


async def test_a_replaced_certificate_is_told_once_and_one_that_is_no_good_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "CERTIFICATE_CHECK_SECONDS", 0.0)
    authority = create_authority("test")
    identity = make_cluster_identities(tmp_path, ["a"], authority=authority)["a"]
    renewal, told = Renewal(identity), asyncio.Queue[None]()
    renewing = asyncio.create_task(agent._renew(renewal, lambda: told.put_nowait(None)))
    identity.cert.write_text("no certificate")
    for _ in range(20):
        await asyncio.sleep(0)
    assert told.empty()
    make_cluster_identities(tmp_path, ["a"], authority=authority)
    async with asyncio.timeout(60):
        await told.get()
    assert renewal.count == 1
    for _ in range(20):
        await asyncio.sleep(0)
    assert told.empty()
    renewing.cancel()
