"""One play on one batch of hosts: its sections, its blocks, its handlers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from msgspec.structs import replace

from sappers.provisioner.inventory.inventory import Host
from sappers.provisioner.playbook import unsupported
from sappers.provisioner.playbook.language import catalog
from sappers.provisioner.playbook.language.keywords import to_bool
from sappers.provisioner.playbook.language.model import Block, Node, Play, Task, tasks_in
from sappers.provisioner.playbook.run.flow_steps import Flow
from sappers.provisioner.playbook.run.handlers import Handlers
from sappers.provisioner.playbook.run.host_state import HostState
from sappers.provisioner.playbook.run.reach import Reach
from sappers.provisioner.playbook.run.run import Run
from sappers.provisioner.playbook.run.scopes import Scopes
from sappers.provisioner.playbook.run.segments import cut, selected
from sappers.provisioner.playbook.run.track import HostTrack
from sappers.provisioner.playbook.tasks.judge import Judged, Outcome, learn, learn_facts
from sappers.provisioner.playbook.tasks.variables import HostFacts, PlayVariables
from sappers.provisioner.playbook.templates.values import NeedsOthers, NotYetKnown
from sappers.provisioner.source import place_of


class PlayRun:
    """A play on a batch of hosts."""

    def __init__(
        self, run: Run, play: Play, name: str, variables: PlayVariables, hosts: Sequence[Host],
        all_hosts: Sequence[Host], of: int,
    ) -> None:  # fmt: skip
        """What is run where.

        Args:
            hosts: Those of the batch that have not failed in an earlier play.
            all_hosts: All that the play names.
            of: How many the batch has, those that have failed among them.
        """
        self._run = run
        self._play = play
        self._of = of
        self.states = {host.name: run.states[host.name] for host in hosts}
        self.scopes = Scopes(run, play, name, variables, all_hosts, self._unbroken)
        self._reach = Reach(run)
        self._headed: Task | None = None  # the task that was told of before its results
        self._told: dict[int, dict[str, Judged]] = {}
        self._told_lock = threading.Lock()
        self._last: dict[str, Judged] = {}
        self._caring = 0  # blocks around whose `rescue` or `always` follows a failure
        self._given_up: set[str] = set()
        self._flushed: set[str] = set()  # hosts that failed, and whose handlers were run after it
        self._threads = ThreadPoolExecutor(max_workers=max(1, min(run.options.forks, len(hosts))))
        self.handlers = Handlers(self, play)
        self._flow = Flow(self, run, play)
        self.ended = False  # for all hosts of the batch
        self.ended_play = False  # and for the batches that would follow

    def go(self) -> None:
        """Run the play; the states tell how it went.

        Raises:
            PlaybookError: What it includes, or a handler's name, is wrong.
        """
        sections = [selected(section, self._run.options) for section in self._play.sections]
        with self._threads:
            if names := self._to_gather():
                gathering = selected((_gathering(self._play),), self._run.options)
                self.run_nodes(gathering, names)
            for section in sections:
                self._refuse_unsupported(section)
            flushing = selected((_flushing(self._play),), self._run.options)
            for section in sections:
                self.run_nodes(section, self.well())
                if flushing:
                    self._flush()

    def _to_gather(self) -> list[str]:
        """The hosts whose facts the play gathers."""
        well, how = self.well(), self._run.options.gathering
        if not self._gathers(otherwise=how != "explicit"):
            return []
        if how != "smart":
            return well
        return [name for name in well if "module_setup" not in self.states[name].facts.facts]

    def _gathers(self, *, otherwise: bool) -> bool:
        gather = self._play.gather_facts
        if gather is None:
            return otherwise
        if isinstance(gather, str):
            scope = self.scopes.of_play(next(iter(self.states)))
            gather = self._run.templates.render(gather, scope, self._play.place)
        return to_bool("gather_facts", gather, place_of(self._play.gather_facts, self._play.place))

    def _refuse_unsupported(self, nodes: Sequence[Node]) -> None:
        """Refuse tasks of what is not supported which are known to be reached already."""
        for each in tasks_in(nodes):
            task = self._run.put_off.get(id(each), each)
            if task.module == unsupported.MODULE and any(
                self._is_reached(task, name) for name in self.well()
            ):
                raise task.arguments["problem"]

    def _is_reached(self, task: Task, host: str) -> bool:
        """Whether conditions and loop let a host do it, as far as is known before it runs."""
        try:
            scope = self.scopes.of_task(host, task.inherited, self.states[host].facts)
            prepared = self._run.preparer.prepare(task, scope)
        except (NotYetKnown, NeedsOthers):
            return False
        return any("unsupported" in (item.known or {}) for item in prepared.items)

    def _flush(self) -> None:
        """Handlers after a section; with `force_handlers` also on hosts that failed in it."""
        forced = [state for state in self.states.values() if state.failed and not state.unreachable]
        if not self._forces_handlers():
            forced = []
        with self._held_back([state for state in forced if state.name not in self._flushed]):
            self.handlers.flush(self.well())
        self._flushed |= {state.name for state in forced}

    def _forces_handlers(self) -> bool:
        wanted = self._play.force_handlers
        wanted = self._run.options.force_handlers if wanted is None else wanted
        return to_bool("force_handlers", wanted, self._play.place)

    @contextlib.contextmanager
    def _held_back(self, states: Sequence[HostState]) -> Iterator[None]:
        """Hosts go on although they failed; after it they have, unless `meta` cleared it."""
        for state in states:
            state.hold_back()
        yield
        for state in states:
            state.give_back()

    def well(self) -> list[str]:
        """Names of the hosts that go on, in order."""
        return [] if self.ended else [name for name, state in self.states.items() if state.is_well]

    def _unbroken(self) -> list[str]:
        return [name for name in self.well() if self.states[name].is_unbroken]

    def run_nodes(self, nodes: Sequence[Node], hosts: Sequence[str]) -> None:
        """Run tasks and blocks on those of the hosts that are well."""
        one_by_one = self._play.max_fail_percentage is not None or self._run.takes is not None
        for part in cut(nodes, one_by_one=one_by_one, free=self._play.strategy != "linear"):
            going = [name for name in hosts if self.states[name].is_well]
            if not going or self.ended:
                return
            if isinstance(part, Block):
                self._run_block(part, going)
            elif isinstance(part, Task):
                going = [name for name in going if self.states[name].takes(part)]
                if going and (part.module == "meta" or self._takes(part)):
                    self._flow.run(part, going)
            else:
                self._run_segment(part, going)

    def _run_block(self, block: Block, hosts: Sequence[str]) -> None:
        states = [self.states[name] for name in hosts]
        with self._cared_for(block.rescue or block.always):
            self.run_nodes(block.body, hosts)
        reached = [state for state in states if not state.unreachable]
        struck = [state for state in reached if state.struck]
        for state in struck:
            state.struck = False
        if block.rescue:
            broken = [state for state in reached if state.failed and state not in struck]
            for state in broken:
                self._mend(state)
            with self._cared_for(block.always):
                self.run_nodes(block.rescue, [state.name for state in broken])
        if block.always:
            reached = [state for state in states if not state.unreachable]
            if not block.rescue:  # what they were struck by took this from them
                reached = [state for state in reached if state not in struck]
            self._run_always(block, reached)

    def _run_always(self, block: Block, states: Sequence[HostState]) -> None:
        with self._held_back(states):
            self.run_nodes(block.always, [state.name for state in states])

    @contextlib.contextmanager
    def _cared_for(self, nodes: Sequence[Node]) -> Iterator[None]:
        """While failures are followed by these: none of them stops the play."""
        self._caring += bool(nodes)
        yield
        self._caring -= bool(nodes)

    def _mend(self, state: HostState) -> None:
        """A failure that `rescue` takes care of; who has failed itself is told which."""
        self._run.ledger.mended(state.name)
        if state.failed and state.failed is not state.along:
            self._run.counts[state.name].rescue()
            state.facts = state.facts.tell(_told_of(state.failed))
        state.failed = None

    def _spread(self, task: Task) -> None:
        """What follows for the other hosts where some have just failed at a task."""
        failed = {name: judged for name, judged in self._last.items() if judged.failed}
        if not failed:
            return
        self._share(task, failed)
        if self._play.max_fail_percentage is not None and not self._caring:
            self._given_up |= {n for n, one in failed.items() if one.outcome is Outcome.FAILED}
            share = len(self._given_up) * 100.0 / self._of
            self.ended = share > self._share_max()

    def _share_max(self) -> float:
        """`max_fail_percentage`. Raises PlaybookError."""
        scope = self.scopes.of_play(next(iter(self.states)))
        wanted = self._play.max_fail_percentage
        rendered = self._run.templates.render(wanted, scope, self._play.place)
        try:
            return float(str(rendered).rstrip("%"))
        except ValueError:
            message = f"`max_fail_percentage` takes a number; this is {rendered!r}"
            raise self._play.place.error(message) from None

    def _share(self, task: Task, failed: Mapping[str, Judged]) -> None:
        """With `any_errors_fatal`, or where a task ran once for all, all hosts fail."""
        first = next(iter(failed))
        scope = self.scopes.of_task(first, task.inherited, self.states[first].facts)
        fatal = self._run.templates.render(task.setting("any_errors_fatal"), scope, task.place)
        if not (to_bool("any_errors_fatal", fatal or False, task.place) or _is_done_once(task)):
            return
        struck = bool(task.setting("run_once")) and not self.states[first].unreachable
        for state in self.states.values():
            if state.is_well:
                state.fail_along(failed[first], struck=struck)

    def _run_segment(self, tasks: Sequence[Task], hosts: Sequence[str]) -> None:
        """Run a segment: each host by itself, until one needs what others know."""
        if len(tasks) == 1 and not self._takes(tasks[0]):
            return
        once = _is_done_once(tasks[0])
        first_host = (once and self._run.ledger.who_ran(tasks[0], hosts)) or hosts[0]
        self._go_through(tasks, [first_host] if once else hosts)
        self._show(tasks, hosts)
        self._learn_elsewhere()
        if once:
            self._tell_all(tasks[0], first_host, hosts)
        if len(tasks) == 1:
            self._spread(tasks[0])
        if catalog.spec_of(tasks[0].module).alone:
            self._run.change_inventory(self._play, tasks[0], self._last)

    def _go_through(self, tasks: Sequence[Task], hosts: Sequence[str]) -> None:
        """Those hosts go on that are least far, until all are through or have failed."""
        at_once = self._at_once(tasks[0])
        reached = dict.fromkeys(hosts, 0)
        stalled = False
        while reached:
            first = min(reached.values())
            going = [name for name, number in reached.items() if number == first]
            # Where all wait to see what the others know, all are as far: one task goes in step.
            part = tasks[first : first + 1] if stalled else tasks[first:]
            self.scopes.in_step = len(part) == 1
            done = self._run_tracks(part, going, at_once)
            stalled = not any(done)
            reached.update(zip(going, (first + number for number in done), strict=True))
            for name in going:
                if reached[name] >= len(tasks) or not self.states[name].is_well:
                    del reached[name]

    def _run_tracks(self, tasks: Sequence[Task], hosts: Sequence[str], at_once: int) -> list[int]:
        """How many of the tasks each host has done."""
        head = self._head if len(tasks) == len(hosts) == 1 else None  # nothing comes before it
        tracks = [
            HostTrack(self._run, self.states[name], self.scopes, self._reach, self._tell, head)
            for name in hosts
        ]
        done: list[int] = []
        for begin in range(0, len(tracks), at_once):
            some = tracks[begin : begin + at_once]
            done += self._threads.map(HostTrack.run, some, [tasks] * len(some))
        return done

    def _learn_elsewhere(self) -> None:
        """Facts that a task told of other hosts (`delegate_facts`) are known of these."""
        for judged in self._last.values():
            for name, result in judged.elsewhere:
                if name in self._run.states:
                    state = self._run.states[name]
                    state.facts = learn_facts(state.facts, judged.task, result)

    def _takes(self, task: Task) -> bool:
        return self._run.takes is None or self._run.takes(task)

    def _at_once(self, task: Task) -> int:
        """How many hosts may do a task at the same time."""
        wanted = task.setting("throttle")
        scope = self.scopes.of_task(next(iter(self.states)), task.inherited, HostFacts())
        rendered = self._run.templates.render(wanted, scope, task.place)
        try:
            return max(0, int(rendered or 0)) or len(self.states)
        except (TypeError, ValueError):
            raise task.place.error(f"`throttle` takes a number; this is {rendered!r}") from None

    def _tell_all(self, task: Task, source: str, hosts: Sequence[str]) -> None:
        """With `run_once` all know what the one host was told."""
        judged = self._last.get(source)
        if judged is not None and task.setting("run_once"):
            for name in hosts:
                if name != source:
                    state = self.states[name]
                    state.facts = learn(state.facts, judged)

    def _show(self, tasks: Sequence[Task], hosts: Sequence[str]) -> None:
        """Tell the results in the tasks' order."""
        self._last = {}
        for task in tasks:
            results = self._told.pop(id(task), {})
            ordered = [name for name in hosts if name in results]
            shown = [name for name in ordered if not results[name].replayed]
            if shown:
                self._head(task, results[shown[0]].name)
                self._headed = None
            for name in ordered:
                self._last[name] = results[name]
                self._run.counts[name].add(results[name])
                if name in shown:
                    self._run.watcher.result(name, results[name])

    def _head(self, task: Task, name: str) -> None:
        """Tell which task it is; once, where its only host's thread has told it before."""
        if self._headed is not task:
            self._headed = task
            self._run.watcher.task(task, name)

    def show(self, task: Task, results: Mapping[str, Judged]) -> None:
        """Tell the results of a task that steers the run."""
        self._told[id(task)] = dict(results)
        self._show([task], list(results))
        self._spread(task)

    def _tell(self, host: str, judged: Judged) -> None:
        """Keep a result until it is its turn to be shown. Called from the hosts' threads."""
        with self._told_lock:
            self._told.setdefault(id(judged.task), {})[host] = judged


def _is_done_once(task: Task) -> bool:
    return catalog.spec_of(task.module).once or bool(task.setting("run_once"))


def _told_of(failed: Judged) -> dict[str, Any]:
    """What a `rescue` knows of the failure."""
    return {
        "ansible_failed_task": {"name": failed.task.name or "", "action": failed.task.module},
        "ansible_failed_result": failed.result,
    }


def _flushing(play: Play) -> Task:
    """What runs handlers after each section: `--skip-tags` may leave it out, as in Ansible."""
    inherited = replace(play.inherited, when=(), tags=play.inherited.tags | {"always"})
    return Task(play.place, "meta", {"action": "flush_handlers"}, inherited)


def _gathering(play: Play) -> Task:
    """The task that gathers facts, as every play begins with: always, if the play has no tags."""
    return Task(
        place=play.place,
        module="setup",
        arguments=play.gathering,
        inherited=replace(
            play.inherited, when=(), tags=play.inherited.tags or frozenset({"always"})
        ),
        name="Gathering Facts",
    )
