"""Single mends switched off, to see that the simulation finds what they mend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from sappers.consensus import state_machine
from sappers.consensus.journal import _TermAndVote
from sappers.consensus.layer import RaftNode
from sappers.decisions.ages import ClockReading

_answer = RaftNode._SyncObj__sendNextNodeIdx
_receive = RaftNode._SyncObj__onMessageReceived


def _answer_before_the_sync(self: Any, node: Any, *args: Any, **kwargs: Any) -> None:
    _answer(self, node, *args, **kwargs)
    if node in self._acks:
        self._links.send(node, self._acks.pop(node))


def _count_answers_of_any_term(self: Any, node: Any, message: dict[str, Any]) -> None:
    if message["type"] == "next_node_idx":
        message["term"] = self.raftCurrentTerm
    _receive(self, node, message)


def _vote_in_memory(self: Any, term: int, voted_for: str | None) -> None:
    self._term = _TermAndVote(term, voted_for)


def _when_it_is_read(self: Any, theirs: float) -> float:
    return asyncio.get_running_loop().time()


@dataclass(frozen=True)
class Mend:
    """One mend, and what shows without it.

    Attributes:
        kinds: Faults that it stands against; none for any.
        finding: What the first seed that fails says, in part.
    """

    name: str
    switched_off: Callable[[], AbstractContextManager[Any]]
    finding: str
    kinds: tuple[str, ...] = ()


MENDS = (
    Mend(
        "an entry is synced before it is acknowledged",
        lambda: patch.object(RaftNode, "_SyncObj__sendNextNodeIdx", _answer_before_the_sync),
        "applies another entry",
        ("forgetful",),
    ),
    Mend(
        "only what differs is cut",
        lambda: patch.object(RaftNode, "_keep_what_matches", lambda self, message: None),
        "applies another entry",
    ),
    Mend(
        "a request is applied once",
        lambda: patch.object(state_machine, "_remembering", lambda state, _: state),
        "is applied again",
    ),
    Mend(
        "a heartbeat is as old as when it was said",
        lambda: patch.object(ClockReading, "said_at", _when_it_is_read),
        "was committed before",
        ("weather", "isolate"),
    ),
)
