"""The founder invites whom it never told before, and nobody twice."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sappers.agent.voting.founding import Founding, Invited
from sappers.config import AgentSettings
from sappers.errors import ApiError, LogDamaged, SappersError
from sappers.model.cluster_state import ClusterState
from sappers.model.member import Member
from sappers.model.view import Genesis
from tests.unit.worlds import member
from tests.waiting import eventually

GENESIS = Genesis("c1", "m1", ("m1", "m2", "m3"), {})


class Others:
    """The agent, gossip and the other members as the founder sees them."""

    def __init__(self) -> None:
        self.known = {name: member(int(name[1:])) for name in GENESIS.voters}
        self.say("m1", has_vote=True)
        self.log = self
        self.asked: list[str] = []
        self.unreachable: set[str] = set()
        self.taken: list[Genesis] = []
        self.refusals: list[Exception] = []

    def say(self, name: str, **what: Any) -> None:
        self.known[name] = msgspec.structs.replace(self.known[name], **what)

    @property
    def me(self) -> Member:
        return self.known["m1"]

    def state(self) -> ClusterState:
        return ClusterState(electorate=GENESIS.voters)

    async def accept_genesis(self, genesis: Genesis) -> None:
        self.taken.append(genesis)
        if self.refusals:
            raise self.refusals.pop()
        self.say("m1", has_vote=True)

    def members(self) -> tuple[Member, ...]:
        return tuple(self.known.values())

    async def call(self, to: Member, *_: Any, **__: Any) -> bytes:
        self.asked.append(to.id)
        if to.id in self.unreachable:
            raise ApiError("not reached")
        return b"{}"


def founding(others: Others, folder: Path, bootstrap: int = 0) -> Founding:
    settings = AgentSettings(cluster="c", node_name="m1", address="10.0.0.1", bootstrap=bootstrap)
    return Founding(others, settings, others, others, folder / "invited.json")


async def test_a_first_voter_is_told_until_it_has_taken_the_genesis_and_never_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an empty disk it would vote in terms in which it has voted."""
    monkeypatch.setattr("sappers.agent.voting.founding.LOOK_SECONDS", 0.0)
    others = Others()
    others.unreachable.add("m3")
    inviting = asyncio.create_task(founding(others, tmp_path).run(lambda: GENESIS))
    await eventually(lambda: others.asked.count("m3") > 3)
    assert others.asked.count("m2") == 1, "it took it, whatever gossip says"
    others.say("m3", has_vote=True)
    await inviting
    others.asked.clear()
    for name in ("m2", "m3"):  # each came back with an empty disk
        others.say(name, has_vote=False)
    await founding(others, tmp_path).run(lambda: GENESIS)
    assert others.asked == []


async def test_a_founder_whose_disk_is_full_founds_once_it_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sappers.agent.voting.founding.RETRY_SECONDS", 0.0)
    monkeypatch.setattr("sappers.agent.voting.founding.LOOK_SECONDS", 0.0)
    others = Others()
    others.say("m1", has_vote=False)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    others.refusals = [SappersError("the port is taken"), full]
    lacking = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    readings = iter([lacking, None])

    def load() -> Genesis | None:
        if reading := next(readings):
            raise reading
        return None

    await founding(others, tmp_path, bootstrap=3).run(load)
    assert len(others.taken) == 3
    assert len({one.cluster_id for one in others.taken}) == 1, "it may be on the disk"
    assert sorted(others.asked) == ["m2", "m3"]


def test_who_was_invited_is_not_guessed_where_the_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "invited.json"
    Invited(path).note(["m2"])
    assert "m2" in Invited(path)
    path.write_bytes(b"[")
    with pytest.raises(LogDamaged, match=r"invited\.json"):
        Invited(path)
