"""The ways to members from the control machine: straight, or else through forwards.

A way that does not answer at once is not waited for: the next one is tried beside it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import TypeVar

import msgspec

from sappers.api.https_calls import CONNECT_SECONDS, NO_ANSWER, HttpsCalls, Peer, reason_of
from sappers.api.problems import decoded, error_in
from sappers.errors import ApiError, MemberUnreachable, SappersError
from sappers.model.view import MemberHealth
from sappers.security.tls import AGENT_SERVER_NAME

NEXT_WAY_SECONDS = 0.25
ASKED_AT_ONCE = 32

S = TypeVar("S")
T = TypeVar("T")


class Endpoint(msgspec.Struct, frozen=True):
    """Where a member may answer.

    Attributes:
        node_id: What its certificate must say, or None when not known.
        name: What people call it.
    """

    name: str
    address: str
    port: int
    node_id: str | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.address} port {self.port})"


class Reached(msgspec.Struct, frozen=True):
    """A member, and where it answered."""

    endpoint: Endpoint
    peer: Peer

    @property
    def name(self) -> str:
        """What people call it."""
        return self.endpoint.name


OpenForward = Callable[[Endpoint], AbstractContextManager[tuple[str, int]]]
"""Opens another way to a member's API, such as an SSH forward; yields the address and port to dial.
Raises a SappersError when it cannot."""

Way = tuple[Endpoint, str, Callable[[], Peer]]
"""Whose it is, what it is called in errors, and what finds where to dial."""


class Ways:
    """Finds members that answer. Forwards that were opened stay until `close`."""

    def __init__(self, https: HttpsCalls, open_forward: OpenForward | None) -> None:
        self._https = https
        self._open_forward = open_forward
        self._forwards = ExitStack()
        self._forwards_lock = threading.Lock()

    def close(self) -> None:
        """Close the forwards."""
        with self._forwards_lock:
            self._forwards.close()

    def any_of(self, endpoints: Sequence[Endpoint]) -> Reached | None:
        """The first of these that answers, if any does."""
        try:
            return self.first_of(endpoints)
        except MemberUnreachable:
            return None

    def first_of(self, endpoints: Sequence[Endpoint]) -> Reached:
        """The first of these that answers; the ways are tried one after the other.

        Raises:
            MemberUnreachable: None does; says why, for each of them.
        """
        answers: queue.Queue[tuple[Endpoint, Peer | None, str]] = queue.Queue()
        problems: dict[Endpoint, list[str]] = {}
        waiting = 0

        def ask(endpoint: Endpoint, name: str, find: Callable[[], Peer]) -> None:
            peer = None
            try:
                peer = find()
                problem = self._problem_of(peer)
            except SappersError as error:
                problem = error.message
            answers.put((endpoint, peer, problem and name + problem))

        remaining = iter(self._all(endpoints))
        while True:
            if (way := next(remaining, None)) is not None:
                # Daemon threads: one that still waits for a dead member must not delay the exit.
                threading.Thread(target=ask, args=way, daemon=True).start()
                waiting += 1
            elif not waiting:
                raise _nobody(problems)
            try:
                wait = NEXT_WAY_SECONDS if way is not None else None
                endpoint, peer, problem = answers.get(timeout=wait)
            except queue.Empty:
                continue
            if peer is not None and not problem:
                return Reached(endpoint, peer)
            waiting -= 1
            problems.setdefault(endpoint, []).append(problem)

    def _all(self, endpoints: Sequence[Endpoint]) -> Iterable[Way]:
        """Every way to these members, the direct ones first."""
        for endpoint in endpoints:
            yield endpoint, "", partial(_peer, endpoint, endpoint.address, endpoint.port)
        if self._open_forward is not None:
            for endpoint in endpoints:
                yield endpoint, "over SSH: ", partial(self._forward, self._open_forward, endpoint)

    def _forward(self, open_forward: OpenForward, endpoint: Endpoint) -> Peer:
        forward = open_forward(endpoint)
        address, port = forward.__enter__()
        with self._forwards_lock:
            self._forwards.push(forward)
        return _peer(endpoint, address, port)

    def _problem_of(self, peer: Peer) -> str:
        """Why a member does not answer, or empty if it does."""
        try:
            answer = self._https.call(peer, "GET", "/v1/health", stall_seconds=CONNECT_SECONDS)
            if not answer.is_success:
                return error_in(answer.status, answer.content, peer.name).message
            decoded(answer.content, MemberHealth)
        except NO_ANSWER as error:
            return reason_of(error)
        except ApiError:
            return "it answers, but not as an agent does"
        return ""


def at_once(ask: Callable[[S], T], each: Collection[S]) -> list[T]:
    """What is answered of each, in their order; `ask` is called from threads. Raises as `ask`."""
    with ThreadPoolExecutor(max_workers=min(len(each), ASKED_AT_ONCE) or 1) as pool:
        return list(pool.map(ask, each))


def ask_all(
    members: Sequence[Reached], ask: Callable[[Reached], T]
) -> Mapping[Reached, T | ApiError]:
    """Ask members at one time; what each answered, or why it did not."""

    def answer(member: Reached) -> T | ApiError:
        try:
            return ask(member)
        except ApiError as error:
            return error

    return dict(zip(members, at_once(answer, members), strict=True))


def _peer(endpoint: Endpoint, address: str, port: int) -> Peer:
    return Peer(endpoint.name, address, port, endpoint.node_id or AGENT_SERVER_NAME)


def _nobody(problems: dict[Endpoint, list[str]]) -> MemberUnreachable:
    each = "; ".join(f"{endpoint}: {'; '.join(why)}" for endpoint, why in problems.items())
    return MemberUnreachable(
        f"no member answers: {each or 'none is known'}",
        hint="is `systemctl status sappers` well on the hosts, and that port, or SSH, reachable?",
    )
