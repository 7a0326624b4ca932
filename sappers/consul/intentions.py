"""Intentions and the proxies' tokens, across the cluster: `ports.Intentions` over py-consul."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import consul
import msgspec
from consul.callback import CB

from sappers.consul.calls import ConsulCalls
from sappers.errors import ConsulError
from sappers.model.mesh import (
    Intention,
    IntentionChange,
    IntentionReading,
    ProxyToken,
    RemoveIntention,
    SetIntention,
)

_PATH = "/v1/connect/intentions"
_EXACT_SINCE = (1, 9)  # older ones know intentions by their ids alone


class _IntentionEntry(msgspec.Struct, rename="pascal"):
    """An intention of `/v1/connect/intentions`."""

    source_name: str
    destination_name: str
    id: str = msgspec.field(name="ID", default="")
    action: str = ""
    description: str = ""


class _TokenEntry(msgspec.Struct, rename="pascal"):
    """A token of `/v1/acl/tokens`."""

    accessor_id: str = msgspec.field(name="AccessorID")
    description: str = ""


class _Config(msgspec.Struct, rename="pascal"):
    version: str


class _Self(msgspec.Struct, rename="pascal"):
    """The part of `/v1/agent/self` that matters."""

    config: _Config


class ConsulIntentions:
    """Reads and writes through one Consul agent; `with_tokens` where Consul has access lists."""

    def __init__(self, calls: ConsulCalls, *, with_tokens: bool) -> None:
        self._calls = calls
        self._with_tokens = with_tokens

    async def intentions(self) -> Sequence[IntentionReading]:
        """All there are, by whomever.

        Raises:
            ConsulError: Consul does not answer, or answers an error.
        """
        entries = await self._calls.call(lambda client: client.connect.intentions.list())
        return [
            IntentionReading(
                one.source_name, one.destination_name, one.action, one.description, one.id
            )
            for one in converted(entries or [], list[_IntentionEntry])
        ]

    async def execute(self, change: IntentionChange) -> None:
        """Make, change or remove one; repeating it changes nothing.

        Raises:
            ConsulError: As `intentions`.
        """
        await self._calls.call(lambda client: _execute(client, change))

    async def tokens(self) -> Sequence[ProxyToken]:
        """All tokens there are, by whomever; none where Consul asks for none.

        Raises:
            ConsulError: As `intentions`.
        """
        return await self._calls.call(list_tokens) if self._with_tokens else ()

    async def revoke(self, token: ProxyToken) -> None:
        """Take a token back.

        Raises:
            ConsulError: As `intentions`.
        """
        await self._calls.call(lambda client: client.acl.token.delete(token.id))


def list_tokens(client: consul.Consul) -> Sequence[ProxyToken]:
    """All tokens there are."""
    entries = converted(client.acl.token.list(), list[_TokenEntry])
    return [ProxyToken(one.accessor_id, one.description) for one in entries]


def converted(entries: Any, kind: type[Any]) -> Any:
    """What Consul answered, as what it should be.

    Raises:
        ConsulError: It is something else.
    """
    try:
        return msgspec.convert(entries, kind)
    except msgspec.ValidationError as error:
        raise ConsulError(f"Consul answers what makes no sense: {error}") from error


def _execute(client: consul.Consul, change: IntentionChange) -> None:
    exact = _version(client) >= _EXACT_SINCE
    match change:
        case SetIntention(intention=intention, mark=mark, id=known) if exact:
            client.connect.intentions.upsert(
                intention.source, intention.destination, action=intention.action, description=mark
            )
        case SetIntention(intention=intention, mark=mark, id=known):
            _write_by_id(client, intention, mark, known)
        case RemoveIntention(reading=reading) if exact:
            client.connect.intentions.delete(reading.source, reading.destination)
        case RemoveIntention(reading=reading):
            client.http.delete(
                CB.boolean(), f"{_PATH}/{reading.id}", headers=client.prepare_headers()
            )


def _write_by_id(client: consul.Consul, intention: Intention, mark: str, known: str) -> None:
    """As 1.8 has it, which py-consul leaves out."""
    body = msgspec.json.encode(
        {
            "SourceType": "consul",
            "SourceName": intention.source,
            "DestinationName": intention.destination,
            "Action": intention.action,
            "Description": mark,
        }
    )
    headers = client.prepare_headers()
    if known:
        client.http.put(CB.boolean(), f"{_PATH}/{known}", data=body, headers=headers)
    else:
        client.http.post(CB.boolean(), _PATH, data=body, headers=headers)


def _version(client: consul.Consul) -> tuple[int, int]:
    """Of the agent that is asked, which is that of the cluster's servers as well."""
    # py-consul's own call shows no token.
    asked = client.http.get(CB.json(), "/v1/agent/self", headers=client.prepare_headers())
    text = converted(asked, _Self).config.version
    try:
        major, minor = (int(part) for part in text.split(".")[:2])
    except ValueError:
        raise ConsulError(f"Consul says that its version is {text[:50]!r}") from None
    return major, minor
