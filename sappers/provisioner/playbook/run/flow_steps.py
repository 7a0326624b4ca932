"""What tasks that steer the run do: includes, variables from files, `meta`."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from sappers.errors import PlaybookError
from sappers.provisioner.playbook.language.load_inherited import inherit
from sappers.provisioner.playbook.language.model import Inherited, Node, Play, Task
from sappers.provisioner.playbook.run.host_state import HostState
from sappers.provisioner.playbook.run.run import Run
from sappers.provisioner.playbook.run.segments import selected
from sappers.provisioner.playbook.tasks.judge import Judged, Outcome, judge, judge_item, learn
from sappers.provisioner.playbook.tasks.prepared import Item, Prepared, failure
from sappers.provisioner.playbook.tasks.variables import HostFacts
from sappers.provisioner.playbook.templates.search_path import candidates
from sappers.provisioner.playbook.templates.values import MISSING
from sappers.provisioner.source import Mapping as SourceMapping

if TYPE_CHECKING:
    from sappers.provisioner.playbook.run.play_run import PlayRun

DEPTH_MAX = 50
# What `meta` does to all hosts at once: whether it does, the first host's conditions say.
_OF_ALL = ("clear_facts", "clear_host_errors", "end_batch", "end_play", "refresh_inventory")


class _Included(msgspec.Struct):
    """What hosts include with the same arguments; `turns` has host and number of the item."""

    args: Mapping[str, Any]
    layer: dict[str, Any]
    turns: list[tuple[str, int]] = msgspec.field(default_factory=list)
    nodes: tuple[Node, ...] = ()


class Flow:
    """Runs the tasks that steer a play."""

    def __init__(self, play_run: PlayRun, run: Run, play: Play) -> None:
        self._play_run = play_run
        self._run = run
        self._play = play
        self._depth = 0

    def run(self, task: Task, hosts: Sequence[str]) -> None:
        """Do what the task says on these hosts.

        Raises:
            PlaybookError: What it includes is wrong, or includes itself without end.
        """
        if task.module == "meta":
            once = task.arguments["action"] in _OF_ALL
        else:
            once = bool(task.setting("run_once"))
        prepared = {host: self._prepare(task, host) for host in (hosts[:1] if once else hosts)}
        if task.module == "meta":
            self._meta(task, prepared)
        elif task.module == "include_vars":
            self._include_vars(task, prepared, hosts)
        else:
            self._include(task, prepared)

    def _prepare(self, task: Task, host: str) -> Prepared:
        state = self._play_run.states[host]
        scope = self._play_run.scopes.of_task(host, task.inherited, state.facts)
        return self._run.preparer.prepare(task, scope)

    def _finish(
        self,
        task: Task,
        prepared: Mapping[str, Prepared],
        results: Mapping[str, Any],
        lost: Container[str] = (),
    ) -> None:
        """Judge, learn and show; on the hosts that are lost a failure is never ignored."""
        told: dict[str, Judged] = {}
        for host, one in prepared.items():
            judged_items = [
                judge_item(one, item, result)
                for item, result in zip(one.items, results[host], strict=True)
            ]
            judged = judge(one, judged_items)
            done = sum(not item.get("skipped") for item in judged_items)
            judged = replace(judged, weight=max(1, done))
            if host in lost:
                judged = replace(judged, outcome=Outcome.FAILED)
            self._run.ledger.check(host, task)
            self._run.ledger.note(host, judged)
            state = self._play_run.states[host]
            state.facts = learn(state.facts, judged)
            state.note(judged)
            if host in lost:
                state.fail_along(judged)
            elif judged.failed:
                state.fail(judged)
            told[host] = judged
        self._play_run.show(task, told)

    def _known(self, one: Prepared) -> list[dict[str, Any]]:
        return [dict(item.known or {}) for item in one.items]

    # include_tasks, include_role

    def _include(self, task: Task, prepared: Mapping[str, Prepared]) -> None:
        results = {host: self._known(one) for host, one in prepared.items()}
        included: dict[str, _Included] = {}
        for host, one in prepared.items():
            for index, (item, result) in enumerate(zip(one.items, results[host], strict=True)):
                args = result.pop("include_args", None)
                if args is not None:
                    result.update(_told_of(task, args))
                    layer = _item_layer(task, item)
                    key = repr((sorted(args.items(), key=str), layer))
                    wanted = included.setdefault(key, _Included(args, layer))
                    wanted.turns.append((host, index))
        lost: set[str] = set()
        for file in included.values():
            try:
                file.nodes = self._load(task, file.args, file.layer)
            except PlaybookError as error:
                for host, index in file.turns:
                    results[host][index] = failure(error, hidden=prepared[host].no_log, task=task)
                    lost.add(host)
        self._finish(task, prepared, results, lost)
        self._depth += 1
        for file in included.values():
            hosts = [host for host, _ in file.turns if self._play_run.states[host].is_well]
            # Handlers, and what they include, know no tags.
            nodes = file.nodes if task.is_handler else selected(file.nodes, self._run.options)
            self._play_run.run_nodes(nodes, hosts)
        self._depth -= 1

    def _load(self, task: Task, args: Mapping[str, Any], layer: dict[str, Any]) -> tuple[Node, ...]:
        if self._depth >= DEPTH_MAX:
            raise task.place.error("it includes itself without end")
        below = _handed_down(task, layer)
        apply = task.arguments.get("apply")
        if isinstance(apply, SourceMapping):
            below = inherit(below, apply)
        loader = self._play.loader
        assert loader is not None
        if task.module == "include_tasks":
            return loader.tasks_of_file(str(args["file"]), task, below)
        below = replace(below, collections=task.inherited.collections)
        known = len(loader.roles)
        nodes = loader.tasks_of_role(str(args["name"]), args, below, task.place)
        if args["public"]:
            self._play_run.scopes.publish(loader.roles[known:])
        return nodes

    # include_vars

    def _include_vars(
        self, task: Task, prepared: Mapping[str, Prepared], hosts: Sequence[str]
    ) -> None:
        results = {host: self._known(one) for host, one in prepared.items()}
        for host in prepared:
            told = hosts if task.setting("run_once") else [host]
            for index, result in enumerate(results[host]):
                args = result.pop("include_args", None)
                if args is None:
                    continue
                try:
                    values, files = self._read_vars(task, args)
                except PlaybookError as error:
                    results[host][index] = failure(error, hidden=prepared[host].no_log, task=task)
                    continue
                for state in (self._play_run.states[name] for name in told):
                    included = state.facts.included.update(values)
                    state.facts = replace(state.facts, included=included)
                result.update(ansible_facts=values, ansible_included_var_files=files)
        self._finish(task, prepared, results)

    def _read_vars(self, task: Task, args: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        name = str(args["dir"] or args["file"])
        paths = candidates(name, "vars", task.inherited.folders)
        if args["dir"] and not task.inherited.role:
            paths.insert(0, Path(task.place.path).parent / name)
        path = next((one for one in paths if one.exists()), None)
        if path is None:
            raise task.place.error(f"there is no {name} to take variables from")
        files = [path] if args["file"] else _files_in(path, args, task)
        values: dict[str, Any] = {}
        for file in files:
            values.update(self._run.files.read_variables(file))
        return ({str(args["name"]): values} if args["name"] else values), [
            str(one) for one in files
        ]

    # meta

    def _meta(self, task: Task, prepared: Mapping[str, Prepared]) -> None:
        hosts = [host for host, one in prepared.items() if not _is_skipped(one)]
        states = [self._play_run.states[host] for host in hosts]
        everyone = list(self._play_run.states.values())
        match str(task.arguments["action"]) if hosts else "noop":
            case "flush_handlers":
                self._play_run.handlers.flush(hosts)
            case "end_play" | "end_batch" as action:
                self._play_run.ended_play = action == "end_play"
                _end(everyone)
            case "end_host":
                _end(states)
            case "end_role":
                _leave_role(task, states)
            case "clear_host_errors":
                self._clear_errors(everyone)
            case "clear_facts":
                for state in everyone:
                    none = HostFacts()
                    state.facts = replace(state.facts, facts=none.facts, plain=none.plain)
            case "refresh_inventory":
                self._run.refresh_inventory(self._play)
            case "reset_connection":
                for state in states:
                    self._run.links.drop(state.name)
            case _:
                pass

    def _clear_errors(self, states: Sequence[HostState]) -> None:
        """Who was out takes part again from the next play on; who does `always` goes on."""
        for state in states:
            if state.clear_errors():
                self._run.ledger.mended(state.name)


def _files_in(folder: Path, args: Mapping[str, Any], task: Task) -> list[Path]:
    """The files of a folder that `include_vars` takes. Raises PlaybookError."""
    wanted = {f".{one.removeprefix('.')}" for one in args["extensions"]}
    files = []
    for path in sorted(folder.rglob("*")):
        depth = len(path.relative_to(folder).parts)
        if not path.is_file() or (args["depth"] and depth > args["depth"]):
            continue
        if any(re.search(one + "$", path.name) for one in args["ignore_files"]):
            continue
        if args["files_matching"] and not re.match(args["files_matching"], path.name):
            continue
        if path.suffix in wanted:
            files.append(path)
        elif not args["ignore_unknown_extensions"]:
            hint = "ignore_unknown_extensions: true"
            raise task.place.error(f"{path} has none of the extensions", hint=hint)
    return files


def _leave_role(task: Task, states: Sequence[HostState]) -> None:
    """Raises PlaybookError where the task is in no role."""
    if task.inherited.role is None:
        raise task.place.error("end_role stands in no role", hint="meta: end_host")
    for state in states:
        state.left.append(task.inherited.role)


def _end(states: Sequence[HostState]) -> None:
    for state in states:
        state.over = True


def _is_skipped(one: Prepared) -> bool:
    return one.known is not None or bool(one.items[0].known and one.items[0].known.get("skipped"))


def _told_of(task: Task, args: Mapping[str, Any]) -> dict[str, Any]:
    """What a result says of the include, as in Ansible."""
    if task.module == "include_tasks":
        return {"include": str(args["file"]), "include_args": {}}
    return {"include_args": {name: args[name] for name in task.arguments if name in args}}


def _item_layer(task: Task, item: Item) -> dict[str, Any]:
    """What the tasks of an include inherit of the loop around it."""
    control = task.loop_control
    names = [control.loop_var, control.index_var, "ansible_loop", "ansible_loop_var"]
    if not (task.loop or task.loop_with):
        return {}
    found = {name: item.scope.find(name) for name in names if name}
    return {name: value for name, value in found.items() if value is not MISSING}


def _handed_down(task: Task, layer: Mapping[str, Any]) -> Inherited:
    """What is around the include, and of its own keywords `vars`: the others are about itself."""
    told = tuple(one for one in (task.vars, layer) if one)
    return replace(task.around, params=(*task.around.params, *told))
