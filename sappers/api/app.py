"""The ASGI application: the table of routes, served. Checks who asks and what, then calls.

Invariant: a handler sees only input that its route's types accept, from a role that may ask; and
whatever goes wrong, the caller gets a `Problem`, never a traceback.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import starlette.routing
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

import sappers
from sappers.api.call import Call
from sappers.api.catching_up import state_at_least
from sappers.api.openapi import openapi_document
from sappers.api.problems import problem_of
from sappers.api.progress import INDEX_HEADER
from sappers.api.route import JSON, MSGPACK, Route
from sappers.api.routes import ROUTES
from sappers.api.wire import Problem, RequestId, Written
from sappers.errors import ApiError, MemberBusy
from sappers.model.limits import Index
from sappers.ports import Clock, MemberService
from sappers.security.tls import PeerIdentity

BODY_SECONDS = 15.0
STALL_SECONDS = 30.0

Endpoint = Callable[[Request], Awaitable[Response]]

_log = structlog.get_logger("sappers.api")


def build_app(service: MemberService, clock: Clock) -> Starlette:
    """The application that answers for `service`."""
    document = msgspec.json.encode(openapi_document(ROUTES, sappers.__version__))

    async def describe(_request: Request) -> Response:
        return Response(document, media_type=JSON)

    app = Starlette(
        routes=[
            starlette.routing.Route("/openapi.json", describe, methods=["GET"]),
            *(
                starlette.routing.Route(
                    route.path, _endpoint(route, service, clock), methods=[route.method]
                )
                for route in ROUTES
            ),
        ],
        exception_handlers={HTTPException: _no_such_call},
    )
    app.router.redirect_slashes = False
    return app


def _endpoint(route: Route, service: MemberService, clock: Clock) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        try:
            call = await _checked(route, request, service, clock)
            if route.of_state:
                await state_at_least(service, _index_wanted(request))
            return _encoded(route, await route.answer(call))
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except Exception as error:
            problem = problem_of(error)
            if problem.status == 500:
                _log.exception("call failed", method=request.method, path=request.url.path)
            return _refused(problem, error)

    return endpoint


async def _checked(route: Route, request: Request, service: MemberService, clock: Clock) -> Call:
    peer: PeerIdentity = request.state.peer
    if peer.role == "agent" and peer.node_id in service.log.state().revoked:
        raise ApiError(
            f"the certificate of {peer.node_id} is revoked",
            status=403,
            hint="empty the host's state folder and bootstrap it: it joins under a new id",
        )
    if peer.role not in route.roles:
        roles = " or ".join(sorted(route.roles))
        raise ApiError(
            f"{route.method} {route.path} is for a certificate of role {roles}", status=403
        )
    body = await _body(route, request)
    return Call(
        service=service,
        peer=peer,
        path=_converted(request.path_params, route.path_type, "path"),
        query=_converted(dict(request.query_params), route.query, "query"),
        body=body,
        request_id=_request_id(request, peer, body),
        now=clock.now(),
    )


def _converted(values: dict[str, Any], kind: type, place: str) -> Any:
    try:
        return msgspec.convert(values, kind, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise ApiError(f"{place}: {error}", status=400) from error


def _request_id(request: Request, peer: PeerIdentity, body: Any) -> str:
    """Of the write: with the same key, another one, or another caller's, has another."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return uuid.uuid4().hex
    try:
        key = msgspec.convert(key, RequestId)
    except msgspec.ValidationError as error:
        raise ApiError(f"Idempotency-Key: {error}", status=400) from error
    caller, path = (peer.role, peer.node_id), (request.url.path, request.url.query)
    write = (key, caller, request.method, path, body)  # whichever member is asked
    return hashlib.sha256(msgspec.msgpack.encode(write)).hexdigest()


def _index_wanted(request: Request) -> int:
    """What the caller knows to be committed, and so must not miss in the answer."""
    try:
        return msgspec.convert(request.headers.get(INDEX_HEADER, "0"), Index, strict=False)
    except msgspec.ValidationError as error:
        raise ApiError(f"Sappers-Index: {error}", status=400) from error


async def _body(route: Route, request: Request) -> Any:
    if route.body is None:
        return None
    content = await _read(request, route)
    if route.body is bytes:
        return content
    decode = msgspec.msgpack.decode if route.body_media == MSGPACK else msgspec.json.decode
    try:
        return decode(content, type=route.body)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise ApiError(f"body: {error}", status=400) from error


async def _read(request: Request, route: Route) -> bytes:
    """The whole body: soon, or where slow uplinks send much, as long as it keeps arriving."""
    pieces: list[bytes] = []
    size = 0
    too_long = ApiError(f"a body has at most {route.body_bytes_max} bytes", status=413)
    if int(request.headers.get("content-length", "0")) > route.body_bytes_max:
        raise too_long
    seconds = STALL_SECONDS if route.body is bytes else BODY_SECONDS
    try:
        async with asyncio.timeout(seconds) as patience:
            async for piece in request.stream():
                pieces.append(piece)  # joined once: a chunk is copied enough on its way
                size += len(piece)
                if size > route.body_bytes_max:
                    raise too_long
                if route.body is bytes:
                    patience.reschedule(asyncio.get_running_loop().time() + seconds)
    except TimeoutError as error:
        raise ApiError(f"the body did not arrive within {seconds:g} s", status=408) from error
    return b"".join(pieces)


def _encoded(route: Route, answer: Any) -> Response:
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, str):
        return Response(answer, media_type=route.media)
    encode = msgspec.msgpack.encode if route.media == MSGPACK else msgspec.json.encode
    headers = {INDEX_HEADER: str(answer.index)} if isinstance(answer, Written) else {}
    return Response(encode(answer), headers=headers, media_type=route.media)


def _refused(problem: Problem, error: Exception | None = None) -> Response:
    # Nobody reads the rest of a body that was refused half-way, so the connection ends with it.
    headers = {"connection": "close"} if problem.status in (403, 408, 413) else {}
    if isinstance(error, MemberBusy):
        headers["retry-after"] = str(error.retry_after_seconds)
    return Response(msgspec.json.encode(problem), problem.status, headers=headers, media_type=JSON)


async def _no_such_call(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path}: {error.detail}"
    hint = "GET /openapi.json lists all calls"
    return _refused(Problem(text, hint, error.status_code, type(error).__name__))
