"""One host's way through a segment of tasks, in a thread of its own.

Tasks are prepared ahead and sent together, until one needs what is not known yet, or what comes of
one decides about the next. What a host is taken to know while tasks are under way is only a draft:
it is made anew from the results, in order, up to the first that failed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from sappers.errors import HostError, PlaybookError
from sappers.provisioner.playbook.language import catalog
from sappers.provisioner.playbook.language.model import Task
from sappers.provisioner.playbook.run.conduct import conduct, lost
from sappers.provisioner.playbook.run.host_state import HostState
from sappers.provisioner.playbook.run.reach import Reach
from sappers.provisioner.playbook.run.request import (
    Answer,
    distributed,
    groups_in,
    has_to_end,
    same_executor,
    turn_by_turn,
)
from sappers.provisioner.playbook.run.run import Run
from sappers.provisioner.playbook.run.scopes import Scopes
from sappers.provisioner.playbook.tasks.judge import (
    Judged,
    Outcome,
    Result,
    is_done,
    is_last,
    judge,
    judge_item,
    learn,
)
from sappers.provisioner.playbook.tasks.prepared import Call, Item, Prepared, failure
from sappers.provisioner.playbook.tasks.variables import PENDING, HostFacts, Scope
from sappers.provisioner.playbook.templates.values import NeedsOthers, NotYetKnown
from sappers.provisioner.source import place_of


class HostTrack:
    """Runs the tasks of a segment on one host."""

    def __init__(
        self,
        run: Run,
        state: HostState,
        scopes: Scopes,
        reach: Reach,
        tell: Callable[[str, Judged], None],
        head: Callable[[Task, str], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`tell` is called with what has ended, `head` with what people are to see begin."""
        self._state = state
        self._scopes = scopes
        self._reach = reach
        self._tell = tell
        self._head = head
        self._preparer = run.preparer
        self._ledger = run.ledger
        self._progress = run.progress
        self._sleep = sleep
        self._clock = clock
        self._waiting: list[Prepared] = []
        self._draft = state.facts

    def run(self, tasks: Sequence[Task]) -> int:
        """Run tasks in order, until one fails; `state` tells how it went.

        Returns:
            How many were run: fewer than there are when one needs to know what other hosts do.
        """
        for number, task in enumerate(tasks):
            if self._state.depends(task):
                self.flush()
            if not self._state.takes(task) or self._is_replayed(task):
                continue
            if not self._state.is_well:
                break
            try:
                prepared = self._prepare(task)
            except NeedsOthers:
                self.flush()
                return number
            if prepared is None:
                break
            self._waiting.append(prepared)
            if prepared.calls and not prepared.is_conducted:
                self._reach.approach(self._state.name, prepared)
            self._draft = _drafted(self._draft, prepared)
            if has_to_end(prepared):
                self.flush()
                if not self._state.is_well:
                    break
        self.flush()
        return len(tasks)

    def _is_replayed(self, task: Task) -> bool:
        """Whether its result was taken over from the run that is resumed."""
        if not self._ledger.has_past(self._state.name):
            return False
        self.flush()  # one that is run again comes before what was known after it
        if not self._state.is_well:
            return False
        judged = self._ledger.take_over(self._state.name, task)
        if judged is not None:
            self._settle(judged)
            self._draft = self._state.facts
        return judged is not None

    def _prepare(self, task: Task) -> Prepared | None:
        """A task, after what it waits for is known; None when the host failed meanwhile."""
        try:
            return self._preparer.prepare(task, self._scope(task))
        except NotYetKnown:
            self.flush()
            if not self._state.is_well:
                return None
            return self._preparer.prepare(task, self._scope(task))

    def _scope(self, task: Task) -> Scope:
        return self._scopes.of_task(self._state.name, task.inherited, self._draft)

    def flush(self) -> None:
        """Run all that is prepared, and judge it."""
        waiting, self._waiting = self._waiting, []
        while waiting:
            batch = same_executor(waiting)
            waiting = waiting[len(batch) :]
            for prepared, answer in zip(batch, self._ask(batch), strict=False):
                self._take(prepared, answer)
                if not self._state.is_well:
                    waiting = []
                    break
        self._draft = self._state.facts

    def _take(self, prepared: Prepared, answer: Answer) -> None:
        began = self._clock()
        results: Iterable[Result] = (
            self._turns(prepared) if turn_by_turn(prepared) else answer.results
        )
        if self._ledger.counts_as_changed(self._state.name, prepared.task):
            results = _counted_as_changed(prepared, results)
        try:
            judged = judge(prepared, self._until(prepared, results))
        except PlaybookError as error:
            result = failure(error, hidden=prepared.no_log, task=prepared.task)
            judged = Judged(
                prepared.task, prepared.name, result, Outcome.FAILED, no_log=prepared.no_log
            )
        judged = replace(judged, seconds=answer.seconds + self._clock() - began)
        self._ledger.note(self._state.name, judged)
        self._settle(judged)

    def _settle(self, judged: Judged) -> None:
        """What follows for the host."""
        state = self._state
        state.facts = learn(state.facts, judged)
        state.note(judged)
        state.notified.update(dict.fromkeys(judged.notified))
        if judged.failed:
            state.fail(judged)
        self._tell(state.name, judged)

    def _ask(self, batch: Sequence[Prepared]) -> list[Answer]:
        """What came of each task; of fewer tasks when one failed."""
        if turn_by_turn(batch[0]):
            return [Answer([], 0.0)]  # each is asked for when it is taken
        answers: list[tuple[Result, float]] = []
        problem: Result | None = None
        if groups := groups_in(batch):
            asking = next(one for one in batch if one.calls)
            blobs = {digest: content for one in batch for digest, content in one.blobs.items()}
            self._ledger.sending(self._state.name, [one.task for one in batch])
            try:
                if asking.is_conducted:
                    take, *_ = self._listeners(batch, answers)
                    for call in asking.calls:
                        take(0, self._conduct(asking, call))
                else:
                    session = self._reach.session(self._state.name, asking)
                    # Its clock runs from here: getting into the host is not the task's.
                    session.run(groups, blobs, *self._listeners(batch, answers))
            except HostError as error:
                problem = lost(error)
                if asking.ignore_unreachable:
                    self._reach.disconnect(self._state.name, asking)
        return distributed(batch, answers, problem)

    def _conduct(self, prepared: Prepared, call: Call) -> Result:
        if self._head is not None and catalog.spec_of(call.module).once:  # a person asked, or waits
            self._head(prepared.task, prepared.name)
        return conduct(self._reach, self._state.name, prepared, call, self._sleep)

    def _turns(self, prepared: Prepared) -> Iterator[Result]:
        """What comes of a loop's turns, each begun when the one before is over, after a pause."""
        last: Result = {}
        for number, item in enumerate(prepared.items):
            pause = prepared.task.loop_control.pause
            if number and pause:
                self._sleep(_number(prepared.task, item, "pause", pause, 0))
            one = replace(prepared, items=(item,))
            if number and prepared.looks_back:
                told = item.scope.under({str(prepared.task.register): dict(last)})
                one = self._preparer.turn(prepared, replace(item, scope=told))
            found = self._ask([one])
            if not found:
                break
            last = found[0].results[0]
            yield last

    def _listeners(
        self, batch: Sequence[Prepared], answers: list[tuple[Result, float]]
    ) -> tuple[Any, ...]:
        """What takes the results, and what programs write, while a batch is under way."""
        progress, host = self._progress, self._state.name
        names = [one.name for one in batch for _ in one.calls]
        last = self._clock()
        if progress is not None:
            progress.begins(host, names[0])

        def take(_: int, result: Result) -> None:
            nonlocal last
            before, last = last, self._clock()
            answers.append((result, last - before))
            if progress is not None and len(answers) < len(names):
                progress.begins(host, names[len(answers)])

        if progress is None or any(one.no_log for one in batch):
            return (take,)
        return take, lambda line: progress.said(host, line)

    def _until(self, prepared: Prepared, results: Iterable[Result]) -> list[Result]:
        """The results after `changed_when` and `failed_when`, and after retries."""
        take = self._retried if prepared.is_retried else judge_item
        taken: list[Result] = []
        for item, result in zip(prepared.items, results, strict=False):
            taken.append(take(prepared, item, result))
            if is_last(prepared.task, item, taken[-1]):
                break
        return taken

    def _retried(self, prepared: Prepared, item: Item, result: Result) -> Result:
        task = prepared.task
        retries = int(_number(task, item, "retries", task.retries, 3))
        if result.get("skipped") or retries <= 0:
            if item.call is not None and retries > 0:  # what no condition left out was one attempt
                result["attempts"] = 1
            return judge_item(prepared, item, result)
        delay = _number(task, item, "delay", task.delay, 5)
        result["attempts"] = attempt = 1  # conditions may ask for it
        result = judge_item(prepared, item, result)
        while not is_done(task, item, result, attempt):
            if result.get("unreachable"):
                return result
            if attempt > retries:
                result.update(failed=True, attempts=retries)
                result.setdefault("msg", "")
                return result
            attempt += 1
            self._sleep(delay)
            again = self._preparer.turn(prepared, item)
            result = self._ask([again])[0].results[0]
            result["attempts"] = attempt
            result = judge_item(again, again.items[0], result)
        return result


def _number(task: Task, item: Item, name: str, value: Any, default: float) -> float:
    """The value of `retries` or `delay`. Raises PlaybookError."""
    if value is None:
        return default
    rendered = item.scope.templates.render(value, item.scope, task.place)
    try:
        number = float(rendered)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        message = f"`{name}` takes a number; this is {rendered!r}"
        raise place_of(value, task.place).error(message)
    return number


def _drafted(facts: HostFacts, prepared: Prepared) -> HostFacts:
    """What will be known after a task, as far as that is clear before it ran."""
    task = prepared.task
    if not prepared.calls:
        results = [dict(item.known or {}) for item in prepared.items]
        judged = [
            judge_item(prepared, item, one)
            for item, one in zip(prepared.items, results, strict=True)
        ]
        return learn(facts, judge(prepared, judged))
    if (spec := catalog.spec_of(task.module)).tells_facts:
        facts = facts.gathering(spec.plain_facts)
    if task.register:
        facts = facts.tell({task.register: PENDING})
    return facts


def _counted_as_changed(prepared: Prepared, results: Iterable[Result]) -> Iterator[Result]:
    """What was asked of the host and went well counts as changed."""
    for item, result in zip(prepared.items, results, strict=False):
        if item.call is not None and not (result.get("failed") or result.get("skipped")):
            result["changed"] = True
        yield result
