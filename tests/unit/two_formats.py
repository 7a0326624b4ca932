"""Two versions of the program in one process: the later one knows one command, and format, more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest.mock import patch

import msgspec

from sappers.consensus import state_machine
from sappers.consensus.step import Step
from sappers.model import log_format
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Command, Proposal, decode_proposal

OLD, NEW = log_format.FORMAT, log_format.FORMAT + 1


class Mark(msgspec.Struct, frozen=True, tag="mark"):
    """What only the later version knows: it leaves a name in the state."""

    since_format: ClassVar[int] = NEW

    name: str


class _LaterProposal(Proposal, frozen=True):
    commands: tuple[Command | Mark, ...]  # type: ignore[assignment]


_later = msgspec.msgpack.Decoder(_LaterProposal)


def decode_any(payload: bytes) -> Proposal:
    """As the later version."""
    return _later.decode(payload)


def _mark(state: ClusterState, command: Mark, _: float) -> Step:
    names = (*state.stopped_by_hand, command.name)
    return msgspec.structs.replace(state, stopped_by_hand=names), ()


@contextmanager
def known_formats(known: Callable[[], int]) -> Iterator[None]:
    """What runs in the block is of the version that `known` says each time."""

    def decode(payload: bytes) -> Proposal:
        return decode_any(payload) if known() >= NEW else decode_proposal(payload)

    steps: Any = {Mark: _mark}
    with (
        patch.object(log_format, "newest_known", known),
        patch.object(state_machine, "decode_proposal", decode),
        patch.dict(state_machine._STEPS, steps),  # type: ignore[arg-type]
    ):
        yield


def of_format(known: int) -> Any:
    """What runs in the block is of one version."""
    return known_formats(lambda: known)
