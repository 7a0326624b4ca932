"""The one wire and disk form of replicated values: msgpack for members, JSON for people."""

from __future__ import annotations

from types import GenericAlias
from typing import Any, Literal, get_args

import immutables
import msgspec

from sappers.model.cluster_state import ClusterState


def _from_map(value: Any) -> Any:
    if isinstance(value, immutables.Map):
        return dict(value)
    raise NotImplementedError(f"{type(value).__name__} has no wire form")


def encode_state(state: ClusterState, *, ordered: bool = False) -> bytes:
    """A snapshot of the state (msgpack); `ordered`: equal states give equal bytes, everywhere."""
    order: Literal["deterministic"] | None = "deterministic" if ordered else None
    return msgspec.msgpack.encode(state, enc_hook=_from_map, order=order)


def decode_state(snapshot: bytes) -> ClusterState:
    """The reverse of `encode_state`.

    Raises:
        msgspec.DecodeError: The bytes are no snapshot; also its subclass ValidationError.
    """
    return msgspec.msgpack.decode(snapshot, type=ClusterState, dec_hook=_to_map)


def state_as_json(state: ClusterState) -> bytes:
    """The state for people and for the HTTP API (JSON)."""
    return msgspec.json.encode(state, enc_hook=_from_map)


def state_from_json(text: bytes) -> ClusterState:
    """The reverse of `state_as_json`."""
    return msgspec.json.decode(text, type=ClusterState, dec_hook=_to_map)


def _to_map(kind: Any, value: Any) -> Any:
    table: Any = GenericAlias(dict, get_args(kind))
    return immutables.Map(msgspec.convert(value, table))
