"""The OpenAPI 3.1 description, generated from the table of routes."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, get_type_hints

import msgspec

from sappers.api.route import JSON, Route
from sappers.api.wire import Problem

_ANY_CALL_MAY = (400, 403, 500)


def openapi_document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The document as plain values, ready to be encoded as JSON."""
    paths: dict[str, dict[str, Any]] = {}
    schemas = _Schemas(routes)
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sappers",
            "version": version,
            "description": "Any member answers any call. TLS 1.3 with a client certificate.",
        },
        "paths": paths,
        "components": {"schemas": schemas.components},
    }


class _Schemas:
    """JSON schemas of every type in the table."""

    def __init__(self, routes: Sequence[Route]) -> None:
        kinds = {
            kind: None
            for route in routes
            for kind in (route.response, route.body)
            if kind is not None and kind is not bytes
        }
        used = [*kinds, Problem]
        made, self.components = msgspec.json.schema_components(
            used, ref_template="#/components/schemas/{name}"
        )
        self._of = dict(zip(used, made, strict=True))

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of a type; bytes and text are strings."""
        schema: dict[str, Any] = self._of.get(kind, {"type": "string"})
        return schema


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.answer.__name__,
        "summary": route.summary,
        "x-roles": sorted(route.roles),
        "parameters": _parameters(route),
        "responses": _responses(route, schemas),
    }
    if route.body is not None:
        schema = schemas.of(route.body)
        operation["requestBody"] = {
            "required": True,
            "content": {route.body_media: {"schema": schema}},
        }
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    found = [*_of_struct(route.path_type, "path"), *_of_struct(route.query, "query")]
    if route.method in ("PUT", "DELETE") and route.body is not bytes:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "Makes a retry exact: of the same write, by the same caller.",
                "schema": {"type": "string", "maxLength": 128},
            }
        )
    if route.of_state:
        found.append(
            {
                "name": "Sappers-Index",
                "in": "header",
                "required": False,
                "description": "Answer once this log index is applied, such as that of a write.",
                "schema": {"type": "integer", "minimum": 0},
            }
        )
    return found


def _of_struct(kind: type, place: str) -> list[dict[str, Any]]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        {
            "name": field.encode_name,
            "in": place,
            "required": field.required,
            "schema": msgspec.json.schema(hints[field.name]),
        }
        for field in msgspec.structs.fields(kind)
    ]


def _responses(route: Route, schemas: _Schemas) -> dict[str, Any]:
    content = {route.media: {"schema": schemas.of(route.response)}}
    good: dict[str, Any] = {"description": "Done"}
    if route.method != "HEAD":
        good["content"] = content
    responses: dict[str, Any] = {"200": good}
    problem = {JSON: {"schema": schemas.of(Problem)}}
    late = (504,) if route.of_state else ()
    for status in sorted({*_ANY_CALL_MAY, *route.errors, *late}):
        responses[str(status)] = {"description": HTTPStatus(status).phrase}
        if route.method != "HEAD":
            responses[str(status)]["content"] = problem
    return responses
