"""Runs the handlers that were called: in the order in which they are written, each once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sappers.provisioner.playbook.model import Play, Task

if TYPE_CHECKING:
    from sappers.provisioner.playbook.play_run import PlayRun


def _answering(handlers: Sequence[Task], called: Iterable[str]) -> list[Task]:
    """All that listen to what is called; of those with that name the last, as in Ansible."""
    names = set(called)
    found = [one for one in handlers if not names.isdisjoint(one.listen)]
    for name in names:
        named = [one for one in handlers if name in one.names - set(one.listen)]
        found += named[-1:]
    return [one for one in handlers if one in found]


class Handlers:
    """The handlers of a play on a batch of hosts."""

    def __init__(self, play_run: PlayRun, play: Play) -> None:
        self._play_run = play_run
        self._play = play
        self._calls: dict[str, list[Task]] = {}

    def all(self) -> list[Task]:
        """The handlers of roles included so far, then the play's own."""
        loader = self._play.loader
        known = list(self._play.handlers)
        late = [one for one in (loader.handlers if loader else ()) if one not in known]
        return [*late, *known]

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
            for handler in _answering(handlers, notified):
                if handler not in calls:
                    calls.append(handler)
            notified.clear()

    def _refuse_unknown(self, handlers: Sequence[Task], hosts: Sequence[str]) -> None:
        known = {name for handler in handlers for name in handler.names}
        for host in hosts:
            unknown = [name for name in self._play_run.states[host].notified if name not in known]
            if unknown:
                raise self._play.place.error(
                    f"a task notifies {unknown[0]!r}, and there is no such handler",
                    hint=f"handlers: {', '.join(sorted(known)) or 'none'}",
                )
