"""Runs plays on one host over the connection that is there already, and says what came of them.

Each host has an engine of its own: none waits for another, and what a play registered is there in
the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sappers.errors import HostError, HostUnreachable
from sappers.provisioner.bootstrap.apt_hints import hint_for
from sappers.provisioner.connection.local import LocalConnection
from sappers.provisioner.connection.ssh import Connection
from sappers.provisioner.executor.executor import Executor
from sappers.provisioner.executor.task_session import TaskSession
from sappers.provisioner.inventory.inventory import Inventory
from sappers.provisioner.playbook.language.model import Play, Task
from sappers.provisioner.playbook.run.engine import Engine
from sappers.provisioner.playbook.run.links import HostLink, HostLinks
from sappers.provisioner.playbook.tasks.judge import Judged, Outcome
from sappers.provisioner.playbook.tasks.options import RunOptions
from sappers.provisioner.playbook.templates.lookup_values import Lookup

_ROOT = "root"
_SHOWN = 2000  # characters of what a program wrote last


class HostPlays:
    """The plays of one host.

    Args:
        connection, executor: Open, and stay open; the executor is root's.
        given: As the engine takes it.
        note: Told what goes on.
    """

    def __init__(
        self,
        name: str,
        inventory: Inventory,
        connection: Connection | LocalConnection,
        executor: Executor,
        *,
        check: bool,
        given: Mapping[str, Any],
        lookups: Mapping[str, Lookup],
        note: Callable[[str], None],
    ) -> None:
        self._name = name
        self._note = note
        self._results: list[Judged] = []
        links = HostLinks()
        links.adopt(name, _OpenLink(connection, executor))
        self._engine = Engine(
            inventory,
            RunOptions(check=check, limit=name, forks=1),
            self,
            links=links,
            lookups=lookups,
            given=given,
            progress=self,
        )

    def run(self, play: Play) -> list[str] | None:
        """What it changed, or would in check mode, a phrase each; None: nothing was to be done.

        Raises:
            HostUnreachable: The connection is gone.
            HostError: A task failed.
            PlaybookError: The playbook is wrong.
        """
        self._results.clear()
        report = self._engine.run([play])
        if report.failed or report.unreachable:  # what `rescue` has mended is neither
            raise self._failure([one for one in self._results if one.failed][-1])
        if all(judged.outcome is Outcome.SKIPPED for judged in self._results):
            return None
        return [_own_name(one) for one in self._results if one.outcome is Outcome.CHANGED]

    def _failure(self, judged: Judged) -> HostError:
        task = _own_name(judged)
        place = f"{judged.task.place.path}:{judged.task.place.line}"
        if judged.no_log:
            return HostError(self._name, f"{task}: failed; why is not shown", hint=f"see {place}")
        output = "\n".join(
            str(judged.result[part]).strip()[-_SHOWN:]
            for part in ("msg", "stderr", "stdout")
            if judged.result.get(part)
        )
        kind = HostUnreachable if judged.outcome is Outcome.UNREACHABLE else HostError
        return kind(self._name, f"{task}: {output}", hint=hint_for(output) or f"see {place}")

    # Watcher

    def play(self, name: str, *, empty: bool = False) -> None:
        """Nothing: the phase has begun already."""

    def task(self, task: Task, name: str) -> None:
        """Nothing: `begins` has told it when it was due."""

    def result(self, host: str, judged: Judged) -> None:
        """Keep it."""
        del host
        self._results.append(judged)

    # Progress

    def begins(self, host: str, name: str) -> None:
        """Say what the host does next."""
        del host
        self._note(name.partition(" : ")[2] or name)

    def said(self, host: str, line: str) -> None:
        """Pass on what a program writes."""
        del host
        if line.strip():
            self._note(line.strip())


class _OpenLink(HostLink):
    """A connection that others have opened, with root's executor, and will close."""

    def __init__(self, connection: Connection | LocalConnection, executor: Executor) -> None:
        super().__init__(connection.host)
        self._connection = connection
        self._of_root = TaskSession(executor)

    def approach(self, user: str | None, method: str | None = None) -> None:
        """Nothing: it is there."""

    def _session(self, user: str | None, method: str | None) -> TaskSession:
        """Root's is there already, by whatever way."""
        if (user or self._opened().user) == _ROOT:
            return self._of_root
        return super()._session(user, method)

    def close(self) -> None:
        """Nothing: it was there before."""


def _own_name(judged: Judged) -> str:
    """A task's name without its role's."""
    return judged.name.partition(" : ")[2] or judged.name
