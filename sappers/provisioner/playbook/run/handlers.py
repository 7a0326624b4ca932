"""Runs the handlers that were called: in the order in which they are written, each once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sappers.errors import PlaybookError
from sappers.provisioner.playbook.language.model import Play, Task
from sappers.provisioner.source import is_template

if TYPE_CHECKING:
    from sappers.provisioner.playbook.run.play_run import PlayRun


def _latest_first(handlers: Sequence[Task]) -> list[Task]:
    """Those of the file that was loaded last come first; those of one file stay in order."""
    files = [list(some) for _, some in groupby(handlers, lambda one: id(one.inherited.role))]
    return [one for some in reversed(files) for one in some]


class Handlers:
    """The handlers of a play on a batch of hosts."""

    def __init__(self, play_run: PlayRun, play: Play) -> None:
        self._play_run = play_run
        self._play = play
        self._calls: dict[str, list[Task]] = {}

    def all(self) -> list[Task]:
        """The play's own, with those of its roles, and of roles that were included so far."""
        loader = self._play.loader
        known = list(self._play.handlers)
        late = [one for one in (loader.handlers if loader else ()) if one not in known]
        return [*known, *late]

    def flush(self, hosts: Sequence[str]) -> None:
        """Run what was called on these hosts, in one pass.

        What a handler calls runs in the same pass if it stands behind it, else in the next.

        Raises:
            PlaybookError: What was called is no handler.
        """
        self._note_calls(hosts)
        for handler in self.all():
            called = [host for host in hosts if handler in self._calls.get(host, ())]
            for host in called:
                self._calls[host].remove(handler)
            going = [host for host in called if self._play_run.states[host].is_well]
            if going:
                self._play_run.run_nodes((handler,), going)
                self._note_calls(going)

    def _note_calls(self, hosts: Sequence[str]) -> None:
        """Turn the names that hosts have called into the handlers that answer to them."""
        handlers = self.all()
        self._refuse_unknown(handlers, hosts)
        for host in hosts:
            notified = self._play_run.states[host].notified
            calls = self._calls.setdefault(host, [])
            for handler in self._answering(handlers, notified):
                if handler not in calls:
                    calls.append(handler)
            notified.clear()

    def _answering(self, handlers: Sequence[Task], called: Iterable[str]) -> list[Task]:
        """In order. Of those with a name that is called it is one alone, as in Ansible."""
        latest_first = [(one, self._named(one)) for one in _latest_first(handlers)]
        found: list[Task] = []
        for name in called:
            own = [one for one, named in latest_first if name in named.names - {*named.listen}]
            heard = {
                named.name or id(one): one
                for one, named in reversed(latest_first)
                if name in named.listen
            }
            found += [*own[:1], *heard.values()]
        return [one for one in handlers if one in found]

    def _named(self, handler: Task) -> Task:
        """With its name rendered; without one as long as that cannot be done."""
        if not is_template(handler.name):
            return handler
        host, state = next(iter(self._play_run.states.items()))
        scope = self._play_run.scopes.of_task(host, handler.inherited, state.facts)
        try:
            rendered = scope.templates.render(handler.name, scope, handler.place)
        except PlaybookError:
            return replace(handler, name=None)
        return replace(handler, name=rendered)

    def _refuse_unknown(self, handlers: Sequence[Task], hosts: Sequence[str]) -> None:
        known = {name for handler in handlers for name in self._named(handler).names}
        for host in hosts:
            unknown = [name for name in self._play_run.states[host].notified if name not in known]
            if unknown:
                raise self._play.place.error(
                    f"a task notifies {unknown[0]!r}, and there is no such handler",
                    hint=f"handlers: {', '.join(sorted(known)) or 'none'}",
                )
