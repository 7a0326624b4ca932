"""Which prepared tasks go to a host in one request, and whose the answers are; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from sappers.provisioner.playbook.tasks.judge import Result
from sappers.provisioner.playbook.tasks.prepared import Prepared


class Answer(msgspec.Struct, frozen=True):
    """The results of a task's turns, and how long they took together."""

    results: list[Result]
    seconds: float


def groups_in(batch: Sequence[Prepared]) -> list[dict[str, Any]]:
    """What the executor is asked: a group for each task that asks anything of the host."""
    return [
        {"tasks": [call.as_data() for call in one.calls], "goes_on": _may_fail(one)}
        for one in batch
        if one.calls
    ]


def _may_fail(prepared: Prepared) -> bool:
    """Whether the host need not stop at a failure: it is ignored, or judged here."""
    return prepared.ignore_errors or prepared.is_judged_here


def _goes_on(prepared: Prepared) -> bool:
    """Whether tasks after it may be sent before it was run."""
    known = [prepared.known, *(item.known for item in prepared.items)]
    return prepared.ignore_errors or not any(one and one.get("failed") for one in known)


def has_to_end(prepared: Prepared) -> bool:
    """Whether what comes of a task has to be known before the next is prepared."""
    decides = prepared.is_judged_here or prepared.ignore_unreachable or not _goes_on(prepared)
    elsewhere = bool(prepared.way.delegate_to) or is_here(prepared)
    return decides or bool(prepared.ignores) or elsewhere or _goes_alone(prepared)


def is_here(prepared: Prepared) -> bool:
    """Whether it is done on this machine, whose files the templates of later tasks may read."""
    return prepared.way.is_local


def _goes_alone(prepared: Prepared) -> bool:
    """Whether no other task may be in a request with it."""
    return prepared.is_conducted or turn_by_turn(prepared)


def turn_by_turn(prepared: Prepared) -> bool:
    """Whether a turn of its loop can be asked for only when the one before has ended."""
    control = prepared.task.loop_control
    waits = bool(control.pause or control.break_when) or prepared.is_retried
    return len(prepared.items) > 1 and (waits or prepared.goes_many_ways or prepared.looks_back)


def same_executor(waiting: Sequence[Prepared]) -> list[Prepared]:
    """As many as go to one executor, in order; those that ask nothing go with any."""
    batch: list[Prepared] = []
    target: Any = None
    for one in waiting:
        if _goes_alone(one):
            return batch or [one]
        if one.calls:
            if target is not None and one.way != target:
                break
            target = one.way
        batch.append(one)
    return batch


def distributed(
    batch: Sequence[Prepared], answers: list[tuple[Result, float]], problem: Result | None
) -> list[Answer]:
    """Answers by task; the task at which the host was lost gets the problem."""
    left = list(answers)
    found: list[Answer] = []
    for one in batch:
        results: list[Result] = []
        seconds = 0.0
        for item in one.items:
            if item.call is None:
                results.append(dict(item.known or {}))
            elif left:
                result, took = left.pop(0)
                results.append(result)
                seconds += took
            elif problem is not None:
                results.append(dict(problem))
            else:
                return found
        found.append(Answer(results, seconds))
        if any(one.get("unreachable") for one in results):
            return found
    return found
