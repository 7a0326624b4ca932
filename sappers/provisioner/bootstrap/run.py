"""One host's way through the phases, and who is told about it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sappers.errors import HostError, HostUnfit
from sappers.model.repair import RepairLogin
from sappers.provisioner.bootstrap.host_plays import HostPlays
from sappers.provisioner.bootstrap.plan import PlannedMember
from sappers.provisioner.bootstrap.recap import PhaseResult
from sappers.provisioner.bootstrap.settled import Settled
from sappers.provisioner.connection.ssh import Connection
from sappers.provisioner.executor.executor import Executor
from sappers.provisioner.executor.facts import Facts
from sappers.provisioner.inventory.inventory import Host


class HostProblems(HostError):
    """A host is unfit for more than one reason; all of them are told at once."""

    def __init__(self, host: str, problems: Sequence[HostUnfit]) -> None:
        super().__init__(host, f"{len(problems)} problems")
        self.problems = tuple(problems)


class Watcher(Protocol):
    """Who shows a run while it goes on. Called from the hosts' threads."""

    def started(self, host: str, title: str) -> None:
        """A phase begins on a host."""

    def ended(self, host: str, result: PhaseResult) -> None:
        """A phase ended on a host."""

    def note(self, host: str, text: str) -> None:
        """What is going on; host is empty when it is about the whole run, text when it is over."""


@dataclass
class HostRun:
    """What the phases have found out about one host so far. One thread works on it.

    Attributes:
        check: Change nothing; say what would change.
        changes: What the phase at work changed, or would.
        connection, executor, facts, settled, plays: Set by the connect phase.
        during_play: What is open until the play under way has ended.
        certificate: The host's, PEM; set by the connect phase, and where it is signed anew.
        is_outdated: Whether its agent runs with something else than it should.
        node_id: Set by the identity play; empty in check mode on a host without one.
        repair_login: How healers log in; set by the identity play.
        running: The agent's unit was active when the run began; set by the connect phase.
        fit: No phase failed so far, and at least one is done.
    """

    host: Host
    member: PlannedMember
    check: bool
    note: Callable[[str], None]
    changes: list[str] = field(default_factory=list)
    connection: Connection | None = None
    executor: Executor = field(init=False)
    facts: Facts = field(init=False)
    settled: Settled = field(init=False)
    plays: HostPlays = field(init=False)
    during_play: ExitStack = field(default_factory=ExitStack)
    certificate: bytes = b""
    is_outdated: Callable[[], bool] = lambda: False
    node_id: str = ""
    repair_login: RepairLogin | None = None
    running: bool = False
    fit: bool = False

    @property
    def name(self) -> str:
        """The host's name in the inventory."""
        return self.host.name

    def write_file(self, path: str, content: bytes | Path, *, mode: int = 0o644) -> bool:
        """As `Executor.write_file`; a change is noted."""
        changed = self.executor.write_file(path, content, mode=mode, check=self.check)
        if changed:
            self.changes.append(f"file {path}")
        return changed


class Phase(Protocol):
    """One step of the way that every host goes."""

    @property
    def title(self) -> str:
        """What people see."""

    def run(self, host: HostRun) -> str | None:
        """Do it, or in check mode say what it would do, in `host.changes`.

        Returns:
            Why it was skipped, or None when it was not.

        Raises:
            HostError: The host goes no further.
        """


class Meeting:
    """Where hosts compare what only all of them together show; nobody waits long for a late one."""

    def __init__(self, grace_seconds: float = 3.0) -> None:
        self._grace = grace_seconds
        self._changed = threading.Condition()
        self._coming: set[str] = set()
        self._facts: dict[str, Facts] = {}

    def expect(self, name: str) -> None:
        """A host sets out."""
        with self._changed:
            self._coming.add(name)

    def give_up(self, name: str) -> None:
        """A host will not come."""
        with self._changed:
            self._coming.discard(name)
            self._changed.notify_all()

    def meet(self, name: str, facts: Facts) -> Mapping[str, Facts]:
        """Arrive, wait for those on their way, at most the grace; the facts of all who came."""
        with self._changed:
            self._facts[name] = facts
            self._coming.discard(name)
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._coming, timeout=self._grace)
            return dict(self._facts)

    def present(self) -> frozenset[str]:
        """Names of all hosts that came so far."""
        with self._changed:
            return frozenset(self._facts)
