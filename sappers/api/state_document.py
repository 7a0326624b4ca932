"""The replicated state's shape in JSON: `ClusterState` with plain tables, for the description."""

from __future__ import annotations

from types import GenericAlias
from typing import Any, get_args, get_origin

import immutables
import msgspec

from sappers.model.cluster_state import ClusterState
from sappers.model.event import Event
from sappers.model.event_tail import EventTail


def _plain(kind: Any) -> Any:
    if kind is EventTail:
        return tuple[Event, ...]
    return GenericAlias(dict, get_args(kind)) if get_origin(kind) is immutables.Map else kind


StateDocument = msgspec.defstruct(
    "ClusterState",
    [(field.name, _plain(field.type)) for field in msgspec.structs.fields(ClusterState)],
    frozen=True,
    namespace={"__doc__": "Everything the log has decided, up to and including `index`."},
)
