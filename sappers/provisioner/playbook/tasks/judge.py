"""What a task's results mean: changed, failed, skipped; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from sappers.errors import PlaybookError
from sappers.provisioner.playbook.language import catalog
from sappers.provisioner.playbook.language.model import Task
from sappers.provisioner.playbook.tasks.prepared import Item, Prepared, failure, turns
from sappers.provisioner.playbook.tasks.variables import HostFacts, Scope

Result = dict[str, Any]
# Variables of connections and of become, which Ansible takes out of facts, too; no `ansible_`.
_STEERING = re.compile(
    r"(?:become|connection|remote|paramiko|winrm|psrp|scp|sftp|su|sudo|shell)(?:_.*)?"
    r"|ssh(?:_(?!host_key_).*)?|host|port|user|pass|password|private_key(?:_file)?|timeout"
    r"|pipelining|executable|async_dir|.*_interpreter|discovered_interpreter_.*"
)


class Outcome(StrEnum):
    """How a task ended on a host. The words mean what they mean to Ansible."""

    OK = "ok"
    CHANGED = "changed"
    SKIPPED = "skipped"
    FAILED = "failed"
    IGNORED = "ignored"
    UNREACHABLE = "unreachable"


class Judged(msgspec.Struct, frozen=True):
    """A task's result on one host.

    Attributes:
        result: As `register` keeps it.
        items: Of a loop: each item's label and result.
        weight: How often it counts as ok: an include once for each of its items.
        seconds: How long it took, retries and waits between them included.
        replayed: It was taken over from the run that is resumed.
        goes_on: The host takes part although it was away (`ignore_unreachable`).
        elsewhere: Of which other hosts it tells facts (`delegate_facts`), with the results.
        delegates: The other host that did each turn (`delegate_to`), else nothing.
    """

    task: Task
    name: str
    result: Result
    outcome: Outcome
    items: tuple[tuple[Any, Result], ...] = ()
    no_log: bool = False
    notified: tuple[str, ...] = ()
    weight: int = 1
    seconds: float = 0.0
    replayed: bool = False
    goes_on: bool = False
    elsewhere: tuple[tuple[str, Result], ...] = ()
    delegates: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the host goes no further."""
        lost = self.outcome is Outcome.UNREACHABLE and not self.goes_on
        return lost or self.outcome is Outcome.FAILED

    @property
    def others(self) -> tuple[str, ...]:
        """The hosts that did it instead, each once."""
        return tuple(dict.fromkeys(filter(None, self.delegates)))


def judge_item(prepared: Prepared, item: Item, result: Result) -> Result:
    """One turn's result, with `changed_when` and `failed_when` applied."""
    task = prepared.task
    result = with_lines(result)
    if result.get("skipped") or not (task.changed_when or task.failed_when):
        return _completed(result)
    scope = _scope_with(task, item.scope, result)
    try:
        if task.changed_when:
            result["changed"] = all(
                scope.templates.holds(one, scope, task.place) for one in task.changed_when
            )
        if task.failed_when:
            failed = all(scope.templates.holds(one, scope, task.place) for one in task.failed_when)
            result["failed_when_result"] = result["failed"] = failed
    except PlaybookError as error:
        result.update(failure(error, hidden=prepared.no_log, task=task))
    return _completed(result)


def is_done(task: Task, item: Item, result: Result, attempt: int) -> bool:
    """Whether `until` holds; without one, whether it did not fail."""
    if not task.until:
        return not result.get("failed")
    scope = _scope_with(task, item.scope, {**result, "attempts": attempt})
    return all(scope.templates.holds(one, scope, task.place) for one in task.until)


def is_last(task: Task, item: Item, result: Result) -> bool:
    """Whether a loop ends with this turn, before all items were taken."""
    conditions = task.loop_control.break_when
    if not conditions:
        return False
    scope = _scope_with(task, item.scope, result)
    return all(scope.templates.holds(one, scope, task.place) for one in conditions)


def _scope_with(task: Task, scope: Scope, result: Result) -> Scope:
    if task.module == "set_fact":
        scope = scope.under(result.get("ansible_facts") or {})
    return scope.under({task.register: result}) if task.register else scope.under(_unnamed(result))


def _unnamed(result: Result) -> Result:
    """Without `register` conditions see the result's own parts, as in Ansible."""
    return {key: value for key, value in result.items() if key.isidentifier()}


def with_lines(result: Result) -> Result:
    """With stdout and stderr as lists of lines, too."""
    for name in ("stdout", "stderr"):
        text = result.get(name)
        if isinstance(text, str):
            result[f"{name}_lines"] = text.splitlines()
    return result


def _completed(result: Result) -> Result:
    result.setdefault("changed", False)
    if not result.get("skipped"):  # as in Ansible nothing failed or did not there
        result.setdefault("failed", False)
    return result


def judge(prepared: Prepared, results: Sequence[Result]) -> Judged:
    """A whole task's result from those of its turns."""
    task = prepared.task
    items: tuple[tuple[Any, Result], ...] = ()
    if prepared.known is not None:
        result = _completed(dict(prepared.known))
    elif prepared.looped:
        result, items = _joined(prepared, results)
    else:
        result = dict(results[0])
    outcome = _outcome(prepared, result)
    return Judged(
        task, prepared.name, result, outcome, items, prepared.no_log,
        _notified(prepared, results) if outcome is Outcome.CHANGED else (),
        goes_on=prepared.ignore_unreachable, elsewhere=_elsewhere(prepared, results),
        delegates=tuple(item.way.delegate_to or "" for item in prepared.items),
    )  # fmt: skip


def _elsewhere(prepared: Prepared, results: Sequence[Result]) -> tuple[tuple[str, Result], ...]:
    if not prepared.delegate_facts:
        return ()
    pairs = zip(prepared.items, results, strict=False)
    return tuple((item.way.delegate_to, result) for item, result in pairs if item.way.delegate_to)


def _joined(
    prepared: Prepared, results: Sequence[Result]
) -> tuple[Result, tuple[tuple[Any, Result], ...]]:
    values = [item.value for item in prepared.items]
    layers = turns(prepared.task, values)
    told = [{**result, **layer} for result, layer in zip(results, layers, strict=False)]
    skipped = bool(told) and all(one.get("skipped") for one in told)
    failed = any(one.get("failed") for one in told)
    message = "All items completed"
    if skipped:
        message = "All items skipped"
    elif failed:
        message = "One or more items failed"
    whole: Result = {
        "results": told,
        "changed": any(one.get("changed") for one in told),
        "skipped": skipped or not told,
        "msg": message,
    }
    if failed:
        whole["failed"] = True
    if not told:
        del whole["msg"]
        whole.update(skipped_reason="No items in the list")
    labels = [item.label for item in prepared.items]
    return whole, tuple(zip(labels, told, strict=False))


def _outcome(prepared: Prepared, result: Mapping[str, Any]) -> Outcome:
    if result.get("unreachable"):
        return Outcome.UNREACHABLE
    if result.get("failed"):
        return Outcome.IGNORED if _is_ignored(prepared, result) else Outcome.FAILED
    if result.get("skipped"):
        return Outcome.SKIPPED
    return Outcome.CHANGED if result.get("changed") else Outcome.OK


def _is_ignored(prepared: Prepared, result: Mapping[str, Any]) -> bool:
    """Whether all that failed is ignored."""
    if not prepared.ignores:
        return prepared.ignore_errors
    pairs = zip(prepared.ignores, result.get("results", ()), strict=False)
    return all(ignored for ignored, one in pairs if one.get("failed"))


def _notified(prepared: Prepared, results: Sequence[Result]) -> tuple[str, ...]:
    """The handlers that are called, rendered; in a loop by each item that was not skipped."""
    task = prepared.task
    names: dict[str, None] = {}
    for item, result in zip(prepared.items, results, strict=False):
        for one in () if result.get("skipped") else task.notify:
            rendered = item.scope.templates.render(one, item.scope, task.place)
            named = rendered if isinstance(rendered, list) else [rendered]
            names.update(dict.fromkeys(map(str, named)))
    return tuple(names)


def learn(facts: HostFacts, judged: Judged) -> HostFacts:
    """What the host's variables are after a task."""
    task, result = judged.task, judged.result
    if not judged.elsewhere:
        for one in [result, *(result for _, result in judged.items)]:
            facts = learn_facts(facts, task, one)
    if task.register:
        facts = facts.tell({task.register: result})
    return facts


def learn_facts(facts: HostFacts, task: Task, result: Result) -> HostFacts:
    """What a host's variables are after one result of a task that tells facts."""
    told = result.get("ansible_facts")
    if isinstance(told, dict) and not result.get("failed"):
        return _with_facts(facts, task, told)
    return facts


def _with_facts(facts: HostFacts, task: Task, told: Mapping[str, Any]) -> HostFacts:
    if task.module == "set_fact":
        if task.arguments.get("cacheable"):
            facts = facts.gathered(told)
        return facts.tell(told)
    if not (spec := catalog.spec_of(task.module)).tells_facts:
        return facts
    return facts.gathered(own_facts(told), spec.plain_facts)


def own_facts(told: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that a host may tell: not those that decide how and as whom hosts are reached."""
    return {
        name: value
        for name, value in told.items()
        if not _STEERING.fullmatch(name.removeprefix("ansible_"))
    }
