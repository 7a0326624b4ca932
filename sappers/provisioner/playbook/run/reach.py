"""How the tasks of a play reach their hosts, and the person who runs it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from sappers.errors import HostError
from sappers.provisioner.inventory.host_values import Secret
from sappers.provisioner.modules.step import Completed
from sappers.provisioner.playbook.run.links import HostLink
from sappers.provisioner.playbook.run.run import Run
from sappers.provisioner.playbook.tasks.prepared import Prepared

if TYPE_CHECKING:
    from sappers.provisioner.executor.task_session import TaskSession


class Reach:
    """The way of each task to its host, or to whom it is delegated. Called from hosts' threads."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def session(self, host: str, prepared: Prepared) -> TaskSession:
        """The executor that a task runs on. Raises HostError."""
        way = prepared.way
        return self._link(host, prepared).session(way.user, way.become_method)

    def approach(self, host: str, prepared: Prepared) -> None:
        """Begin to log in and to start the executor, beside what is prepared meanwhile."""
        with contextlib.suppress(HostError):  # said when the session is asked for
            way = prepared.way
            self._link(host, prepared).approach(way.user, way.become_method)

    def raw(self, host: str, prepared: Prepared, line: str, executable: str | None) -> Completed:
        """How a command line ended that was run without Python. Raises HostError."""
        way = prepared.way
        return self._link(host, prepared).raw(way.user, way.become_method, line, executable)

    def disconnect(self, host: str, prepared: Prepared) -> None:
        """Close the connection of a task; the next one opens another."""
        self._run.links.drop(prepared.way.delegate_to or host)

    def prompt(self, text: str, *, echo: bool) -> str | None:
        """What a person answers; None where nobody can."""
        return self._run.ask(text, echo) if self._run.ask else None

    def _link(self, host: str, prepared: Prepared) -> HostLink:
        way = prepared.way
        for _, value in way.reached:
            if isinstance(value, Secret):
                self._run.ledger.cover(value.reveal())
        return self._run.links.link(self._run.host_named(way.delegate_to or host), way.reached)
