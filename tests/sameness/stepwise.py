"""A playbook in which each task is announced right before it is done.

So that what a task says in check mode is compared where all that it follows from is really there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.sameness.meant import UNKNOWN_UNTIL_DONE, why_unknown_ahead

Events = Sequence[Mapping[str, Any]]  # of a run of ours, as `-o json` writes them
ANNOUNCED = "announced"
# What these do is not known ahead (docs/playbooks.md), or is no matter of the host.
_LEFT_OUT = """
    add_host assert block command debug fail fetch group_by import_role import_tasks include_role
    include_tasks include_vars meta pause raw reboot script set_fact shell uri wait_for
    wait_for_connection
""".split()  # noqa: SIM905
_LISTS = ("pre_tasks", "tasks", "post_tasks", "block", "rescue", "always")
_NOT_TWICE = ("name", "notify", "ignore_errors", "check_mode", "diff")


def written_stepwise(path: Path, target: Path) -> bool:
    """Write it to another file; whether there is anything to announce."""
    yaml = YAML()  # which knows the lines of tasks
    yaml.preserve_quotes = True  # what is plain in a block may not be in braces
    plays = yaml.load(path)
    lines = path.read_text().splitlines()
    unknown = {n for n, line in enumerate(lines) if why_unknown_ahead(line) in UNKNOWN_UNTIL_DONE}
    number = sum(_announce(play, unknown) for play in plays)
    yaml.dump(plays, target)
    return number > 0


def _announce(owner: Any, unknown: set[int]) -> int:
    """Put before each task of a play or a block the same in check mode; how many there are.

    Args:
        unknown: Lines of tasks that are not announced.
    """
    number = 0
    for name in _LISTS:
        tasks: list[Any] = []
        for task in owner.get(name) or ():
            number += _announce(task, unknown)
            if _is_announced(task) and task.lc.line not in unknown:
                twin = {key: value for key, value in task.items() if key not in _NOT_TWICE}
                tasks.append(copy.deepcopy(twin) | {
                    "name": ANNOUNCED, "check_mode": True, "diff": True, "ignore_errors": True,
                })  # fmt: skip
                number += 1
            tasks.append(task)
        if name in owner:
            owner[name] = tasks
    return number


def _is_announced(task: dict[str, Any]) -> bool:
    return "check_mode" not in task and not any(key.rpartition(".")[2] in _LEFT_OUT for key in task)


def pairs(events: Events) -> Iterator[tuple[str, list[Any], list[Any]]]:
    """Of each task that was announced: where it is, and how both ended, with their diffs."""
    waiting: dict[str, list[Any]] = {}
    task: dict[str, Any] = {}
    for event in events:
        if event["event"] == "task":
            task = dict(event)
        elif event["event"] == "result":
            ended = ["failed" if event["outcome"] == "ignored" else event["outcome"],
                     diffs_of(event)]  # fmt: skip
            if task["name"] == ANNOUNCED:
                waiting[event["host"]] = ended
            elif event["host"] in waiting:
                yield task["place"], waiting.pop(event["host"]), ended


def diffs_of(event: Any) -> list[Any]:
    """What a result says of how contents change, each turn of a loop by itself."""
    result = event.get("result") or {}
    if isinstance(result.get("results"), list) and "msg" in result:
        turns = [one for one in result["results"] if isinstance(one, dict)]
        return [one.get("diff") or [] for one in turns]
    return [result.get("diff") or []]
