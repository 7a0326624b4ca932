"""From a task and a host's variables to what is to be done: a pure function, but for reading files.

A task that needs what is not known yet raises `NotYetKnown`, and is prepared again once it is.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from sappers.errors import PlaybookError
from sappers.provisioner.modules import async_status
from sappers.provisioner.playbook.language import catalog
from sappers.provisioner.playbook.language.arguments import ArgumentError, typed_arguments
from sappers.provisioner.playbook.language.keywords import to_bool
from sappers.provisioner.playbook.language.model import Task, titled
from sappers.provisioner.playbook.tasks.control import Control, ControlMissing
from sappers.provisioner.playbook.tasks.options import RunOptions
from sappers.provisioner.playbook.tasks.prepared import Call, Item, Prepared, failure, turns
from sappers.provisioner.playbook.tasks.variables import Scope
from sappers.provisioner.playbook.tasks.ways import way_of
from sappers.provisioner.playbook.templates.lookups import Lookups
from sappers.provisioner.playbook.templates.values import OMIT
from sappers.provisioner.source import Decrypt, Text, place_of


class Preparer:
    """Prepares the tasks of a run; `new_id` names what is left running (`async`)."""

    def __init__(
        self,
        options: RunOptions,
        decrypt: Decrypt | None = None,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._options = options
        self._decrypt = decrypt
        self._new_id = new_id

    def prepare(self, task: Task, scope: Scope) -> Prepared:
        """A task on a host.

        Raises:
            NotYetKnown: It needs what a task under way will tell.
        """
        settings = self._settings(task, scope)
        if "known" in settings:
            settings = self._settings_of_turns(task, scope) or settings
        if "known" in settings:
            return Prepared(task, task.title, (), **settings)
        hidden = settings["no_log"]
        name = self._name(task, scope)
        try:
            values = self._loop_values(task, scope)
        except PlaybookError as error:
            # As in Ansible: what is skipped anyway may loop over what is not there.
            skipped = self._skipped(task, scope, hidden=hidden)
            known = (
                skipped
                if skipped and not skipped.get("failed")
                else failure(error, hidden=hidden, task=task)
            )
            return Prepared(task, name, (), known=known, **settings)
        blobs: dict[str, bytes | Path] = {}
        if values is None:
            items: tuple[Item, ...] = (self._item(task, scope, None, blobs, hidden=hidden),)
        else:
            items = self._loop_items(task, scope, values, blobs, hidden=hidden)
        return Prepared(task, name, items, looped=values is not None, blobs=blobs, **settings)

    def _loop_items(
        self, task: Task, scope: Scope, values: list[Any], blobs: dict[str, Any], *, hidden: bool
    ) -> tuple[Item, ...]:
        """All turns; what one sets (`set_fact`) the next knows, over all else, as in Ansible."""
        told: dict[str, Any] = {}
        items: list[Item] = []
        for layer in turns(task, values):
            turn = (scope.under(dict(told)) if told else scope).under(layer)
            items.append(
                self._item(task, turn, layer[task.loop_control.loop_var], blobs, hidden=hidden)
            )
            told.update((items[-1].known or {}).get("ansible_facts") or {})
        return tuple(items)

    def turn(self, prepared: Prepared, item: Item) -> Prepared:
        """One turn again, with variables as they are now: for `until`."""
        blobs: dict[str, bytes | Path] = {}
        again = self._item(prepared.task, item.scope, item.value, blobs, hidden=prepared.no_log)
        return replace(prepared, items=(again,), looped=False, blobs=blobs)

    def _settings(self, task: Task, scope: Scope) -> dict[str, Any]:
        """The keywords about how it runs, rendered."""

        no_log = True  # also where nobody can tell
        try:
            no_log = self._is(task, scope, "no_log")
            others = ("ignore_errors", "ignore_unreachable", "delegate_facts")
            return {"no_log": no_log, **{name: self._is(task, scope, name) for name in others}}
        except PlaybookError as error:
            return {"known": failure(error, hidden=no_log, task=task), "no_log": no_log}

    def _settings_of_turns(self, task: Task, scope: Scope) -> dict[str, Any] | None:
        """The same where they ask for the item of a loop: what one hides, all hide."""
        try:
            values = self._loop_values(task, scope)
        except PlaybookError:
            return None
        each = [self._settings(task, scope.under(one)) for one in turns(task, values or [])]
        if not each or any("known" in one for one in each):
            return None
        settings = {name: all(one[name] for one in each) for name in each[0]}
        hidden = any(one["no_log"] for one in each)
        ignores = tuple(one["ignore_errors"] for one in each)
        return {**settings, "no_log": hidden, "ignores": ignores}

    def _name(self, task: Task, scope: Scope) -> str:
        named: Any = task.name or task.written or task.module
        try:
            if task.name:
                named = scope.templates.render(task.name, scope, task.place)
            elif task.module == "include_role":
                named = f"include_role : {task.arguments['name']}"
        except PlaybookError:
            pass  # the name as it is written tells more than none
        return titled(task, str(named))

    def _loop_values(self, task: Task, scope: Scope) -> list[Any] | None:
        if task.loop is None and not task.loop_with:
            return None
        if task.loop_with:
            return Lookups(scope, decrypt=self._decrypt).loop_items(
                task.loop_with, task.loop, task.place, task.module
            )
        values = scope.templates.render(task.loop, scope, task.place)
        if not isinstance(values, list):
            hint = "a mapping is looped over with `| dict2items`"
            raise task.place.error(f"`loop` takes a list; this is {values!r}", hint=hint)
        return values

    def _item(
        self, task: Task, scope: Scope, value: Any, blobs: dict[str, Any], *, hidden: bool
    ) -> Item:
        label = value
        try:
            if task.loop_control.label is not None and value is not None:
                label = scope.templates.render(task.loop_control.label, scope, task.place)
            known = self._skipped(task, scope, hidden=hidden)
            if known is not None:
                return Item(scope, value, label, known=known)
            return self._call(task, scope, value, label, blobs)
        except ControlMissing as error:
            return Item(
                scope, value, label, known=failure(task.place.error(str(error)), hidden=hidden)
            )
        except (PlaybookError, ValueError) as error:
            known = failure(error, hidden=hidden, task=task)
            return Item(scope, value, label, known=known)

    def _skipped(self, task: Task, scope: Scope, *, hidden: bool) -> dict[str, Any] | None:
        """The result of a task whose condition does not hold; None where all hold."""
        try:
            for condition in task.inherited.when:
                if not scope.templates.holds(condition, scope, task.place):
                    return {
                        "changed": False,
                        "skipped": True,
                        "skip_reason": "Conditional result was False",
                        "false_condition": str(condition)
                        if isinstance(condition, str)
                        else condition,
                    }
        except PlaybookError as error:
            return failure(error, hidden=hidden, task=task)
        return None

    def _call(
        self, task: Task, scope: Scope, value: Any, label: Any, blobs: dict[str, Any]
    ) -> Item:
        args = self._arguments(task, scope)
        if task.module in catalog.FLOW:
            return Item(scope, value, label, known={"changed": False, "include_args": args})
        source = catalog.source_of(task.module)
        way = way_of(task, scope, self._options)
        control = Control(task, scope, way, self._options.verbosity, self._decrypt)
        if catalog.is_done_here(task.module):
            return Item(scope, value, label, known=source.act(args, control), way=way)
        if hasattr(source, "prepare"):
            args.update(source.prepare(args, control))
        blobs.update(control.blobs)
        call = Call(
            module=task.module,
            args=args,
            check=self.is_check(task, scope),
            alone=task.setting("check_mode") is True,
            diff=self._is(task, scope, "diff", self._options.diff),
            environment=self._environment(task, scope),
            seconds=self._seconds(task, scope, "timeout", task.setting("timeout")),
        )
        call = self._left_running(call, task, scope, control)
        return Item(scope, value, label, call=call, way=way)

    def _left_running(self, call: Call, task: Task, scope: Scope, control: Control) -> Call:
        """As `async` and `poll` want it: bounded in time, or a job that goes on by itself."""
        bound = self._seconds(task, scope, "async", task.seconds_max)
        if bound is None:
            return call
        call = replace(call, seconds=min(bound, call.seconds or bound))
        polled = scope.templates.render(task.poll, scope, task.place)
        waits = polled is None or self._seconds(task, scope, "poll", polled) is not None
        folder = control.variable("ansible_async_dir") or async_status.FOLDER
        job = {"id": f"j{self._new_id()}", "folder": str(folder), "polled": waits}
        return replace(call, job=job)

    def _arguments(self, task: Task, scope: Scope) -> dict[str, Any]:
        raw: Mapping[str, Any] = task.arguments
        spec = catalog.spec_of(task.module)
        unrendered: tuple[str, ...] = ("apply",)  # of includes: it is for the tasks below
        if task.module not in catalog.FLOW:
            unrendered = getattr(catalog.source_of(task.module), "RAW", ())
        rendered = {
            name: value if name in unrendered else scope.templates.render(value, scope, task.place)
            for name, value in raw.items()
        }
        given = {name: value for name, value in rendered.items() if value is not OMIT}
        if spec.any_arguments:
            given = {str(scope.templates.render(Text(name, task.place), scope, task.place)): value
                     for name, value in given.items()}  # fmt: skip
        try:
            return typed_arguments(given, spec)
        except ArgumentError as error:
            place = place_of(raw.get(error.name), task.place)
            raise place.error(f"{task.written or task.module}: {error}", hint=error.hint) from error

    def is_check(self, task: Task, scope: Scope) -> bool:
        """Whether a task only says what it would do."""
        return self._is(task, scope, "check_mode", self._options.check)

    @staticmethod
    def _is(task: Task, scope: Scope, name: str, default: bool = False) -> bool:  # noqa: FBT001, FBT002
        written = task.setting(name)
        if written is None:
            return default
        value = scope.templates.render(written, scope, task.place)
        return default if value is OMIT else to_bool(name, value, place_of(written, task.place))

    @staticmethod
    def _seconds(task: Task, scope: Scope, keyword: str, value: Any) -> float | None:
        """How long it may take, by a keyword; 0 is no bound."""
        rendered = scope.templates.render(value, scope, task.place)
        try:
            return float(rendered or 0) or None
        except (TypeError, ValueError):
            raise task.place.error(f"`{keyword}` takes seconds; this is {rendered!r}") from None

    @staticmethod
    def _environment(task: Task, scope: Scope) -> dict[str, str]:
        merged: dict[str, str] = {}
        for layer in task.inherited.environment:
            rendered = scope.templates.render(layer, scope, task.place)
            if not isinstance(rendered, dict):
                raise task.place.error("`environment` takes a mapping of names to values")
            merged.update({str(key): str(one) for key, one in rendered.items()})
        return merged
