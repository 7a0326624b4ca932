"""What an agent does beside its loop: nothing that fails once stays undone."""

from __future__ import annotations

import asyncio

import pytest

from sappers.agent import background as module
from sappers.agent.background import background
from tests.waiting import eventually


async def test_what_fails_begins_anew_and_what_is_done_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.0)
    begun = {"works": 0, "is done": 0}
    ended: list[str] = []

    async def works() -> None:
        begun["works"] += 1
        if begun["works"] < 3:
            raise OSError("the disk is full")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("works")

    async def is_done() -> None:
        begun["is done"] += 1

    async with background(works, is_done):
        await eventually(lambda: begun["works"] == 3, 10)
        assert ended == []
    assert ended == ["works"]
    assert begun == {"works": 3, "is done": 1}
