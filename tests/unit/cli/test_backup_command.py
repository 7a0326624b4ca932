"""A backup where nobody can commit any more: the newest that any member has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from sappers.cli.backup import _newest
from sappers.errors import ApiError, BackupError
from sappers.model.backup import TakenState
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import decode_state, encode_state


class Reaching:
    """A client that reaches members by number; one without a state does not answer."""

    def __init__(self, *states: ClusterState | None) -> None:
        self.states = states

    def everyone(self, *, silent: bool) -> Sequence[int]:
        assert silent, "those that are cut off may have the newest"
        return range(len(self.states))

    def take_backup_at(self, number: int) -> TakenState:
        state = self.states[number]
        if state is None:
            raise ApiError("it does not answer")
        return TakenState(state.index, encode_state(state), ())


def newest(*states: ClusterState | None) -> ClusterState:
    client: Any = Reaching(*states)
    return decode_state(_newest(client).state)


def test_it_is_the_newest_that_any_member_has() -> None:
    state = ClusterState(cluster_id="c", index=7, term=2)
    behind = msgspec.structs.replace(state, index=5)
    given_up = msgspec.structs.replace(state, index=9, term=1)
    assert newest(behind, state, None, given_up) == state


def test_without_any_answer_there_is_none() -> None:
    with pytest.raises(BackupError, match="no member gives its state"):
        newest(None)
