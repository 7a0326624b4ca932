from __future__ import annotations

from pathlib import Path

import httpx
import msgspec

from sappers.agent.clock import SystemClock
from sappers.api.app import build_app
from sappers.api.wire import Problem, Written
from sappers.model.commands import RegisterMember, SetMemberState
from sappers.model.member import MemberState
from sappers.ports import QuorumHeard
from sappers.security.tls import PeerIdentity
from tests.fake_member import FakeMember, make_member
from tests.unit.worlds import commit


async def ask(member: FakeMember, role: str, method: str, path: str, body: bytes = b"") -> bytes:
    app = build_app(member, SystemClock())

    async def by(scope, receive, send) -> None:
        await app({**scope, "state": {"peer": PeerIdentity("ops", role, "test")}}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(by), base_url="http://n1") as client:
        return (await client.request(method, path, content=body)).content


async def test_an_operator_closes_a_member_and_opens_it_again(tmp_path: Path) -> None:
    member = FakeMember("n1", tmp_path)
    member.log.current, _ = commit(member.log.current, RegisterMember(make_member("n2")))
    path = "/v1/members/n2/cordon"
    answer = await ask(member, "operator", "PUT", path, b'{"drain": true}')
    assert msgspec.json.decode(answer, type=Written).index == member.log.current.index
    assert member.log.current.cordons["n2"].drain
    refused = await ask(member, "agent", "DELETE", path)
    assert msgspec.json.decode(refused, type=Problem).status == 403
    await ask(member, "operator", "DELETE", path)
    assert "n2" not in member.log.current.cordons
    unknown = await ask(member, "operator", "PUT", "/v1/members/n9/cordon", b"{}")
    assert msgspec.json.decode(unknown, type=Problem).error == "no member n9"


async def test_an_operator_has_a_member_forgotten_that_is_gone(tmp_path: Path) -> None:
    member = FakeMember("n1", tmp_path)
    there = RegisterMember(make_member("n2"))
    member.log.current, _ = commit(member.log.current, there)
    path = "/v1/members/n2"
    refused = msgspec.json.decode(await ask(member, "operator", "DELETE", path), type=Problem)
    assert (refused.status, refused.error) == (409, "n2 cannot be forgotten: it is alive")
    left = SetMemberState("n2", MemberState.LEFT, "gossip says so")
    member.log.current, _ = commit(member.log.current, left)
    refused = msgspec.json.decode(await ask(member, "agent", "DELETE", path), type=Problem)
    assert refused.status == 403
    await ask(member, "operator", "DELETE", path)
    assert "n2" not in member.log.current.members
    unknown = msgspec.json.decode(await ask(member, "operator", "DELETE", path), type=Problem)
    assert (unknown.status, unknown.error) == (404, "no member n2")


async def test_a_member_has_the_leader_ask_the_quorum(tmp_path: Path) -> None:
    member = FakeMember("n1", tmp_path)
    answer = await ask(member, "agent", "GET", "/v1/quorum")
    assert msgspec.json.decode(answer, type=QuorumHeard).index == member.log.current.index
