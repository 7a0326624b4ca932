"""The application without sockets: what any input gets, and what describes it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from sappers.agent.clock import SystemClock
from sappers.api.app import build_app
from sappers.api.catching_up import state_at_least
from sappers.api.metrics import metrics_text
from sappers.api.openapi import openapi_document
from sappers.api.problems import decoded, error_in, problem_of
from sappers.api.reads import pick_events
from sappers.api.route import AGENTS
from sappers.api.routes import ROUTES
from sappers.api.wire import Problem
from sappers.errors import ApiError, CommandRefused, ImageError, NoQuorum, OutcomeUnknown
from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import (
    FoundCluster,
    Proposal,
    RegisterMember,
    RemoveVoter,
    RevokeMember,
)
from sappers.model.event import Event
from sappers.model.member import MemberState
from sappers.model.observation import RaftRole, RaftStatus
from sappers.model.view import MemberHealth
from sappers.ports import ImageFigures
from sappers.security.tls import PeerIdentity
from tests.fake_member import FakeMember, make_allocation, make_member


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> ASGIApp:
    return build_app(FakeMember("n1", tmp_path_factory.mktemp("images")), SystemClock())


AGENT = PeerIdentity("n2", "agent", "test")


def ask(
    app: ASGIApp,
    method: str,
    url: str,
    *,
    content: bytes = b"",
    headers: dict[str, str] | None = None,
    peer: PeerIdentity = AGENT,
) -> httpx.Response:
    """One call by an agent, without a socket."""

    async def as_agent(scope, receive, send) -> None:
        await app({**scope, "state": {"peer": peer}}, receive, send)

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(as_agent, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://n1") as client:
            return await client.request(method, url, content=content, headers=headers)

    return asyncio.run(call())


def checked(answer: httpx.Response) -> None:
    """Whatever was sent: an answer that says what was wrong, never an internal error."""
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400 and answer.request.method != "HEAD":
        assert msgspec.json.decode(answer.content, type=Problem).status == answer.status_code


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["image", "name", "digest", "count", "guest_port"]) | st.text(), inner
        )
    ),
    max_leaves=8,
)
bodies = st.binary(max_size=300) | anything.map(lambda value: json.dumps(value).encode())
with_body = [route for route in ROUTES if route.body is not None]
quick = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(route=st.sampled_from(with_body), body=bodies, packed=st.none() | anything)
def test_no_body_is_an_internal_error(app, route, body, packed) -> None:
    path = route.path.replace("{name}", "web").replace("{digest}", "0" * 64)
    if packed is not None:
        try:
            body = msgspec.msgpack.encode(packed)
        except OverflowError:  # no such integer in msgpack
            return
    checked(ask(app, route.method, path, content=body))


@quick
@given(
    route=st.sampled_from(ROUTES),
    word=st.text(min_size=1, max_size=50),
    query=st.dictionaries(
        st.sampled_from(["after", "limit", "tail_bytes"]) | st.text(max_size=10),
        st.text(max_size=30) | st.integers().map(str),
        max_size=3,
    ),
    key=st.none() | st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0")),
)
def test_no_path_query_or_key_is_an_internal_error(app, route, word, query, key) -> None:
    path = route.path
    for name in ("{name}", "{id}", "{digest}"):
        path = path.replace(
            name, httpx.URL("http://x/").copy_with(params={"w": word}).query.decode()[2:]
        )
    url = httpx.URL(f"http://n1{path}").copy_with(params=query)
    headers = {} if key is None else {"idempotency-key": key.encode("latin-1")}
    checked(ask(app, route.method, str(url), headers=headers))


async def test_a_member_that_is_behind_answers_once_it_is_not(tmp_path: Path) -> None:
    member = FakeMember("n1", tmp_path / "images")
    with pytest.raises(OutcomeUnknown, match="n1 has not caught up with index 1"):
        await state_at_least(member, 1, seconds=0.01)
    waiting = asyncio.create_task(state_at_least(member, 1))
    await asyncio.sleep(0)
    assert not waiting.done()
    proposal = Proposal("r1", "n2", 1.0, (RegisterMember(make_member("n2")),))
    await member.log.propose(proposal, 1.0)
    assert set((await waiting).members) == {"n2"}


def test_a_members_own_word_waits_for_no_state(app) -> None:
    for path in ("/v1/health", "/v1/members", "/v1/raft", "/metrics"):
        assert ask(app, "GET", path, headers={"sappers-index": "9"}).status_code == 200


@pytest.mark.parametrize("index", ["x", "-1", "1.5", "9" * 5000, ""])
def test_an_index_that_is_none_is_refused(app, index: str) -> None:
    assert ask(app, "GET", "/v1/status", headers={"sappers-index": index}).status_code == 400


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 400, "1e999", "NaN", "\u0661"])
def test_numbers_beyond_numbers(app, number: str) -> None:
    assert ask(app, "GET", f"/v1/events?limit={number}").status_code == 400


def test_the_description_names_every_route_type_and_role() -> None:
    document = json.loads(msgspec.json.encode(openapi_document(ROUTES, "1")))
    described = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    }
    assert described == {(route.method, route.path) for route in ROUTES}
    text = json.dumps(document)
    for name in document["components"]["schemas"]:
        assert text.count(f"#/components/schemas/{name}") > 0
    proposals = document["paths"]["/v1/proposals"]["post"]
    assert proposals["x-roles"] == sorted(AGENTS)
    put = document["paths"]["/v1/workloads/{name}"]["put"]
    assert {p["name"] for p in put["parameters"]} == {"name", "Idempotency-Key"}
    assert set(put["responses"]) == {"200", "400", "403", "409", "500", "503", "504"}
    view = document["paths"]["/v1/status"]["get"]
    assert [p["name"] for p in view["parameters"]] == ["Sappers-Index"]
    assert set(view["responses"]) == {"200", "400", "403", "500", "504"}
    health = document["paths"]["/v1/health"]["get"]
    assert health["parameters"] == []
    ids = [op["operationId"] for item in document["paths"].values() for op in item.values()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NoQuorum("x"), 503),
        (OutcomeUnknown("x"), 504),
        (CommandRefused("x"), 409),
        (ImageError("x"), 400),
        (ApiError("x", status=410), 410),
        (ApiError("x"), 502),
        (KeyError("x"), 500),
    ],
)
def test_errors_and_their_status(error: Exception, status: int) -> None:
    problem = problem_of(error)
    assert problem.status == status
    back = error_in(status, msgspec.json.encode(problem), "n1")
    assert back.status == status
    assert isinstance(back, NoQuorum) == isinstance(error, NoQuorum)
    assert error_in(502, b"<html>", "n1").message == "n1 answered 502: <html>"


@pytest.mark.parametrize(
    ("answer", "decode"),
    [
        (b"<html>", msgspec.json.decode),
        (b'{"role": "\xff"}', msgspec.json.decode),
        (b'{"x": ' + b"[" * 100_000, msgspec.json.decode),
        (b"\x81\xa1x\xa1\xff", msgspec.msgpack.decode),
    ],
)
def test_what_is_no_answer_is_said(answer: bytes, decode: Callable[..., Any]) -> None:
    with pytest.raises(ApiError, match="the member's answer cannot be read"):
        decoded(answer, MemberHealth, decode)


def test_events_of_one_entry_stay_together() -> None:
    events = tuple(Event(i, 1, 0.0, "k", "s", "t", "m", "") for i in (1, 2, 2, 2, 3))
    assert pick_events(events, None, 2) == events[-2:]
    assert pick_events(events, 0, 2) == events[:4]
    assert pick_events(events, 2, 10) == events[4:]
    assert pick_events(events, 9, 10) == ()


def test_metrics_count_members_and_own_guests() -> None:
    me, dead = make_member("n1"), msgspec.structs.replace(make_member("n2"), state=MemberState.DEAD)
    mine = make_allocation("a", "n1", status=AllocationStatus.HEALTHY)
    other = make_allocation("b", "n2", id="b-1", status=AllocationStatus.HEALTHY)
    state = ClusterState()
    state = msgspec.structs.replace(
        state, allocations=state.allocations.update({"a": mine, "b": other})
    )
    raft = RaftStatus(RaftRole.FOLLOWER, 7, "n2", 12, 11)
    images = ImageFigures(bytes_fetched=7, wanted=3, whole=2)
    lines = metrics_text(
        me,
        (me, dead),
        raft,
        state,
        hub_connected=False,
        images=images,
        refused={"rate": 5},
        pushes=9,
    ).splitlines()
    assert "sappers_image_bytes_fetched_total 7.0" in lines
    assert "sappers_images_whole 2.0" in lines
    assert "sappers_health_pushes_total 9.0" in lines
    assert 'sappers_refused_total{kind="rate"} 5.0' in lines
    for line in (
        'sappers_members{state="alive"} 1.0',
        'sappers_members{state="dead"} 1.0',
        'sappers_guests{status="healthy"} 1.0',
        "sappers_raft_term 7.0",
        "sappers_raft_commit_index 12.0",
        "sappers_raft_applied_index 11.0",
        "sappers_raft_leader 0.0",
        "sappers_hub_connected 0.0",
    ):
        assert line in lines


async def test_the_fake_applies_through_the_real_state_machine(tmp_path: Path) -> None:
    member = FakeMember("n1", tmp_path)
    proposal = Proposal("r", "n1", 1.0, (RegisterMember(member.me),))
    assert (await member.propose(proposal, 1)).refused == ""
    assert member.log.state().members["n1"] == member.me


def test_a_local_reading_says_how_old_it_is_and_can_be_refused_for_that(tmp_path: Path) -> None:
    member = FakeMember("n1", tmp_path)
    app = build_app(member, SystemClock())
    member.instant_log.age = 2.5
    assert ask(app, "GET", "/v1/workloads").json()["age_seconds"] == 2.5
    assert ask(app, "GET", "/v1/state").headers["sappers-state-age"] == "2.500"
    assert ask(app, "GET", "/v1/allocations?max_age=3").status_code == 200
    refused = ask(app, "GET", "/v1/allocations?max_age=1")
    assert refused.status_code == 503
    assert "2.5 s old" in refused.json()["error"]
    member.instant_log.age = None
    assert "sappers-state-age" not in ask(app, "GET", "/v1/state").headers
    assert ask(app, "GET", "/v1/state?max_age=9").status_code == 503


def test_a_voter_is_not_revoked_before_its_vote_was_taken(tmp_path: Path) -> None:
    member = FakeMember("n1", tmp_path)
    app = build_app(member, SystemClock())
    register = RegisterMember(msgspec.structs.replace(make_member("b"), id="n2"))
    found = FoundCluster("c", ("n1", "n2", "n3"))
    asyncio.run(member.propose(Proposal("r", "n1", 1.0, (found, register)), 1.0))
    operator = PeerIdentity("alice", "operator", "test")
    refused = ask(app, "PUT", "/v1/members/n2/revocation", peer=operator)
    assert refused.status_code == 409
    assert "DELETE /v1/raft/voters/n2" in refused.json()["hint"]
    assert not member.log.state().revoked
    asyncio.run(member.propose(Proposal("v", "n1", 1.0, (RemoveVoter("n2"),)), 1.0))
    assert ask(app, "PUT", "/v1/members/n2/revocation", peer=operator).status_code == 200
    assert set(member.log.state().revoked) == {"n2"}


def test_a_revoked_member_is_refused_everything(tmp_path: Path) -> None:
    member = FakeMember("n1", tmp_path)
    app = build_app(member, SystemClock())
    assert ask(app, "GET", "/v1/health").status_code == 200
    for command in (
        RegisterMember(msgspec.structs.replace(make_member("b"), id="n2")),
        RevokeMember("n2"),
    ):
        asyncio.run(member.propose(Proposal(f"r{command}", "n1", 1.0, (command,)), 1.0))
    answer = ask(app, "GET", "/v1/health")
    assert answer.status_code == 403
    assert "revoked" in answer.json()["error"]
    state = member.log.state()
    assert state.cordons["n2"].drain
    assert [event.kind for event in state.events][-1] == "member.revoked"
