"""The one wire and disk form of replicated values: msgpack for members, JSON for people."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from types import GenericAlias
from typing import Any, Literal, get_args

import immutables
import msgspec

from sappers.model.cluster_state import ClusterState
from sappers.model.event import Event
from sappers.model.event_tail import EventTail
from sappers.model.log_format import check_known

_PIECE_ITEMS = 500


def _from_table(value: Any) -> Any:
    if isinstance(value, immutables.Map):
        return dict(value)
    if isinstance(value, EventTail):
        return tuple(value)
    raise NotImplementedError(f"{type(value).__name__} has no wire form")


def encode_state(state: ClusterState, *, ordered: bool = False) -> bytes:
    """A snapshot of the state (msgpack); `ordered`: equal states give equal bytes, everywhere."""
    order: Literal["deterministic"] | None = "deterministic" if ordered else None
    return msgspec.msgpack.encode(state, enc_hook=_from_table, order=order)


def encoded_state(state: ClusterState) -> Iterator[bytes]:
    """What `encode_state` gives, in pieces: each holds up others for a moment only."""
    yield _map_head(len(ClusterState.__struct_fields__))
    for name in ClusterState.__struct_fields__:
        value = getattr(state, name)
        yield msgspec.msgpack.encode(name)
        if not isinstance(value, immutables.Map):
            yield msgspec.msgpack.encode(value, enc_hook=_from_table)
            continue
        yield _map_head(len(value))
        items = iter(value.items())
        while some := dict(islice(items, _PIECE_ITEMS)):
            encoded = msgspec.msgpack.encode(some, enc_hook=_from_table)
            yield encoded[len(_map_head(len(some))) :]


def _map_head(length: int) -> bytes:
    """How msgpack begins a map."""
    if length < 2**4:
        return struct.pack(">B", 0x80 | length)
    return struct.pack(">BH", 0xDE, length) if length < 2**16 else struct.pack(">BI", 0xDF, length)


def decode_state(snapshot: bytes) -> ClusterState:
    """The reverse of `encode_state`.

    Raises:
        msgspec.DecodeError: The bytes are no snapshot; also its subclass ValidationError.
        UpgradeNeeded: There may be more in it than this version would see.
    """
    state = decode_known_part(snapshot)
    check_known(state.format)
    return state


def decode_known_part(snapshot: bytes) -> ClusterState:
    """The same of a state of any format: what this version knows of it.

    Raises:
        msgspec.DecodeError: As `decode_state`.
    """
    return msgspec.msgpack.decode(snapshot, type=ClusterState, dec_hook=_to_table)


def state_as_json(state: ClusterState) -> bytes:
    """The state for people and for the HTTP API (JSON)."""
    return msgspec.json.encode(state, enc_hook=_from_table)


def _to_table(kind: Any, value: Any) -> Any:
    if kind is EventTail:
        return EventTail(msgspec.convert(value, tuple[Event, ...]))
    table: Any = GenericAlias(dict, get_args(kind))
    return immutables.Map(msgspec.convert(value, table))
