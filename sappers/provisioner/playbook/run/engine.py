"""Runs playbooks: play after play, batch after batch, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from msgspec.structs import replace

from sappers.errors import InventoryError, PlaybookError
from sappers.provisioner.inventory.host import LOCALHOST, Host
from sappers.provisioner.inventory.host_values import Secret
from sappers.provisioner.inventory.inventory import Inventory
from sappers.provisioner.playbook.journal.ledger import Ledger
from sappers.provisioner.playbook.language.check_templates import all_tasks, check_templates
from sappers.provisioner.playbook.language.files import PlaybookFiles
from sappers.provisioner.playbook.language.model import Play, Task, tasks_in
from sappers.provisioner.playbook.language.read_ahead import included_ahead
from sappers.provisioner.playbook.run.counts import Counts
from sappers.provisioner.playbook.run.dynamic_inventory import Inventories
from sappers.provisioner.playbook.run.host_state import HostState
from sappers.provisioner.playbook.run.links import HostLink, HostLinks
from sappers.provisioner.playbook.run.play_hosts import batches, check_serial, hosts_of
from sappers.provisioner.playbook.run.play_run import PlayRun
from sappers.provisioner.playbook.run.play_vars import (
    scope_asking,
    scope_of,
    scope_on,
    variables_of,
)
from sappers.provisioner.playbook.run.prompts import ask_for
from sappers.provisioner.playbook.run.run import Progress, Run, Watcher
from sappers.provisioner.playbook.run.segments import selected, starting_at
from sappers.provisioner.playbook.tasks.options import RunOptions
from sappers.provisioner.playbook.tasks.prepare import Preparer
from sappers.provisioner.playbook.tasks.variables import as_source
from sappers.provisioner.playbook.tasks.ways import reached_by
from sappers.provisioner.playbook.templates.functions import make_templates
from sappers.provisioner.playbook.templates.lookup_values import Lookup
from sappers.provisioner.source import Decrypt, Place

_MAY_MAKE_GROUPS = ("add_host", "group_by", "include_role", "include_tasks")


class RunReport(msgspec.Struct, frozen=True):
    """What came of a run.

    Attributes:
        counts: By host, of those that any task was for.
        offline: Hosts that were left out since they did not answer (`skip_offline`).
        seconds: How long it took.
        connect_seconds: How long it took to get into each host.
        cleared: Hosts whose failures `meta: clear_host_errors` took away.
        left_out: Hosts that took no part any more since another host's failure was theirs, too.
    """

    counts: Mapping[str, Counts] = msgspec.field(default_factory=dict)
    offline: tuple[str, ...] = ()
    seconds: float = 0.0
    connect_seconds: Mapping[str, float] = msgspec.field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    cleared: frozenset[str] = frozenset()

    @property
    def failed(self) -> bool:
        """Whether a task failed for good on some host."""
        return bool(self.left_out) or any(count.failed for count in self._counting())

    @property
    def unreachable(self) -> bool:
        """Whether a host could not be reached."""
        return any(count.unreachable for count in self._counting())

    def _counting(self) -> list[Counts]:
        return [count for name, count in self.counts.items() if name not in self.cleared]


class PlayOutline(msgspec.Struct, frozen=True):
    """What is asked for of a play.

    Attributes:
        tasks: Titles, with tags; what is included shows when it runs.
    """

    name: str
    hosts: list[str]
    tasks: list[tuple[str, list[str]]]


class Engine:
    """A run of playbooks over an inventory."""

    def __init__(
        self,
        inventory: Inventory,
        options: RunOptions,
        watcher: Watcher,
        *,
        decrypt: Decrypt | None = None,
        become_password: Secret | None = None,
        password: Secret | None = None,
        ask: Callable[[str, bool], str] | None = None,
        ledger: Ledger | None = None,
        takes: Callable[[Task], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
        links: HostLinks | None = None,
        lookups: Mapping[str, Lookup] | None = None,
        given: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """What whoever runs a playbook of its own may give beside.

        Args:
            links: Connections that are there already.
            lookups: Lookups beside Ansible's.
            given: Values, or functions that make them when asked, of variables that nothing in
                the playbook can set.
            progress: Told what goes on, from the hosts' threads.
        """
        if options.limit is not None:
            _check_limit(inventory, options.limit)
        self._clock = clock
        self._offline: dict[str, bool] = {}
        self._left_out: set[str] = set()
        self._options = options
        names = [host.name for host in inventory.hosts] + list(LOCALHOST)
        self._run = Run(
            inventory=inventory,
            options=options,
            templates=make_templates(lookups, decrypt, options.managed),
            preparer=Preparer(options, decrypt),
            links=links or HostLinks(become_password, password),
            watcher=watcher,
            states={name: HostState(name) for name in names},
            counts={name: Counts() for name in names},
            files=PlaybookFiles(decrypt),
            ledger=ledger or Ledger(),
            takes=takes,
            ask=ask,
            inventories=Inventories(inventory),
            extra=as_source(dict(options.extra), Place("(-e)")),
            given=given or {},
            progress=progress,
        )

    def run(self, plays: Sequence[Play]) -> RunReport:
        """Run the plays in order.

        Raises:
            PlaybookError: Something is wrong that only the run could show.
            InventoryError: A pattern of hosts is malformed.
        """
        began = self._clock()
        may_be_none = _may_make_groups(plays)
        try:
            for play in self._chosen(plays):
                if play.opens and any(state.is_out for state in self._run.states.values()):
                    break
                named = hosts_of(self._run, play, may_be_none=may_be_none)
                hosts = self._online(play, named)
                self._run.ledger.playing([host.name for host in hosts])
                if not hosts:
                    self._run.watcher.play(self._name_of(play), empty=not named)
                elif not self._run_play(play, hosts):
                    break
            self._run.ledger.ended()
        finally:
            self._run.links.close()
        return RunReport(
            {name: one for name, one in sorted(self._run.counts.items()) if one.took_part},
            tuple(sorted(name for name, is_offline in self._offline.items() if is_offline)),
            self._clock() - began,
            self._run.links.connect_seconds(),
            frozenset(self._left_out),
            frozenset(state.name for state in self._run.states.values() if state.cleared),
        )

    def check(self, plays: Sequence[Play]) -> None:
        """Refuse what can be told to be wrong before any host is asked.

        Raises:
            PlaybookError: A template is none, or wants what is not there; or a play is for hosts
                that are not there, and nothing can bring them.
        """
        tasks = (*all_tasks(plays), *included_ahead(plays))
        self._run.put_off = check_templates(tasks, self._run.templates)
        chosen = self._chosen(plays)
        for play in chosen:
            check_serial(play)
        for play in chosen[:1]:
            variables_of(self._run, play, {})  # those of later plays may come of earlier ones
        for play in chosen if not _may_make_groups(plays) else ():
            hosts_of(self._run, play, may_be_none=False)

    def outline(self, plays: Sequence[Play]) -> list[PlayOutline]:
        """What a run would be of, without running anything.

        Raises:
            PlaybookError: As `check`.
        """
        may_be_none = _may_make_groups(plays)
        return [
            PlayOutline(
                self._name_of(play),
                [host.name for host in hosts_of(self._run, play, may_be_none=may_be_none)],
                self._tasks_of(play),
            )
            for play in self._chosen(plays)
        ]

    def _chosen(self, plays: Sequence[Play]) -> list[Play]:
        """The plays from `start_at_task` on.

        Raises:
            PlaybookError: No task is called so.
        """
        name = self._options.start_at_task
        if name is None:
            return list(plays)
        for number, play in enumerate(plays):
            sections = [selected(section, self._options) for section in play.sections]
            rest = starting_at(sections, name)
            if rest is not None:
                return [replace(play, sections=rest), *plays[number + 1 :]]
        raise PlaybookError(
            f"no task is called {name!r}",
            path="(--start-at-task)",
            hint="--list-tasks shows what they are called; what is included while it runs does not",
        )

    def _online(self, play: Play, hosts: list[Host]) -> list[Host]:
        """Of the hosts those that answer, where others are to be left out."""
        if not self._options.skip_offline:
            return hosts
        new = [host for host in hosts if host.name not in self._offline]
        with ThreadPoolExecutor(max_workers=max(1, min(self._options.forks, len(new)))) as threads:
            answers = threads.map(lambda host: self._link(play, host).is_offline(), new)
            self._offline.update(zip((host.name for host in new), answers, strict=True))
        return [host for host in hosts if not self._offline[host.name]]

    def _link(self, play: Play, host: Host) -> HostLink:
        """The link that most tasks of a play use."""
        scope = scope_on(self._run, play, host)
        asking = scope.for_keywords()

        def keyword(name: str) -> Any:
            value = play.inherited.settings.get(name)
            return self._run.templates.render(value, asking, play.place)

        try:
            reached = reached_by(keyword, scope, self._options)
        except ValueError as error:
            raise play.place.error(str(error)) from error
        return self._run.links.link(host, tuple(sorted(reached.items())))

    def _run_play(self, play: Play, hosts: Sequence[Host]) -> bool:
        """Whether plays that follow may run."""
        states = self._run.states
        for host in hosts:
            states[host.name].begin_play()
        self._left_out.update(host.name for host in hosts if states[host.name].is_left_out)
        name = self._name_of(play)
        prompted = self._prompted(play) if self._well(hosts) else {}
        variables = variables_of(self._run, play, prompted)
        around = self._run.of_play(play.folder, hosts)
        for batch in batches(self._run, play, hosts):
            self._run.watcher.play(name)
            well = self._well(batch)
            if not well:
                continue
            run = PlayRun(around, play, name, variables, well, hosts, len(batch))
            run.go()
            failed = [host.name for host in well if states[host.name].failed]
            self._left_out.update(name for name in failed if states[name].is_left_out)
            # As in Ansible: it goes on where of a batch some had failed in an earlier play.
            if run.ended or (len(well) == len(batch) and not self._well(batch)):
                return False
            if run.ended_play:
                break
        return True

    def _well(self, hosts: Sequence[Host]) -> list[Host]:
        """Those that have not failed in this play or in one before."""
        return [host for host in hosts if not self._run.states[host.name].is_out]

    def _prompted(self, play: Play) -> dict[str, Any]:
        """What is asked of a person before a play."""
        if not play.vars_prompt:
            return {}
        scope = scope_asking(self._run, play)

        def render(value: Any) -> Any:
            return self._run.templates.render(value, scope, play.place)

        return ask_for(play, self._run.extra, self._run.ask, render)

    def _name_of(self, play: Play) -> str:
        """A play's name, or its hosts."""
        named = play.name or play.hosts
        named = self._run.templates.render(named, scope_of(self._run, play), play.place)
        return ", ".join(map(str, named)) if isinstance(named, list) else str(named)

    def _tasks_of(self, play: Play) -> list[tuple[str, list[str]]]:
        sections = (selected(section, self._options) for section in play.sections)
        return [
            (task.title, sorted(task.inherited.tags))
            for section in sections
            for task in tasks_in(section)
        ]


def _check_limit(inventory: Inventory, limit: str) -> None:
    """What is wrong with a limit is said first of all. Raises InventoryError."""
    if not inventory.in_order_of(limit) and inventory.hosts:
        raise InventoryError(
            f"--limit {limit!r} leaves no host",
            path=str(inventory.path),
            hint="`!` and `&` take away from what the other parts name",
        )


def _may_make_groups(plays: Sequence[Play]) -> bool:
    """Whether hosts that plays name may come to be while they run."""
    tasks = (task for play in plays for nodes in play.sections for task in tasks_in(nodes))
    return any(task.module in _MAY_MAKE_GROUPS for task in tasks)
