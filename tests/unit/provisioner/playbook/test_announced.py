"""How what `--check` announced is compared with what the run then did (tests/sameness)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.corpus.case import HERE, Outcomes
from tests.corpus.keys import keys_of, lacking
from tests.sameness.announced import announced_wrongly, stepwise_wrongly
from tests.sameness.compare import HOST_CASES
from tests.sameness.meant import UNKNOWN_AHEAD
from tests.sameness.runs import Ran
from tests.sameness.stepwise import ANNOUNCED, written_stepwise

PLAYBOOK = """\
- hosts: all
  tasks:
    - apt: {name: x}
    - apt: {name: y}  # not known ahead: lists
    - command: id
"""


def events(path: Path, *outcomes: tuple[str, int, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for module, line, outcome in outcomes:
        found.append(
            {"event": "task", "module": module, "name": module, "place": f"{path}:{line}:7"}
        )
        found.append({"event": "result", "host": "h1", "outcome": outcome, "result": {}})
    return found


def compared(path: Path, would: list[Any], did: list[Any], touched: tuple[str, ...] = ()) -> int:
    path.write_text(PLAYBOOK)
    announced, done = events(path, *would), events(path, *did)
    return len(announced_wrongly(Ran(Outcomes(), Outcomes(), announced, done, touched)))


def test_other_outcomes_than_announced_are_told_but_for_what_nobody_can_know(
    tmp_path: Path,
) -> None:
    path = tmp_path / "p.yml"
    right = [("apt", 3, "changed"), ("apt", 4, "changed"), ("command", 5, "changed")]
    assert compared(path, right, right) == 0
    assert compared(path, [("apt", 3, "ok"), *right[1:]], right) == 1
    assert compared(path, [right[0], ("apt", 4, "ok"), right[2]], right) == 0
    assert compared(path, [*right[:2], ("command", 5, "skipped")], right) == 0
    assert compared(path, [*right[:2], ("command", 5, "ok")], right) == 1
    assert compared(path, [right[0], ("apt", 4, "failed")], right) == 0  # nothing comes after it
    assert compared(path, [("apt", 3, "failed")], right) == 2
    assert compared(path, right, right, touched=("file /x: …",)) == 1


def test_each_task_is_announced_right_before_it_is_done(tmp_path: Path) -> None:
    path, target = tmp_path / "p.yml", tmp_path / "stepwise.yml"
    path.write_text(PLAYBOOK)
    assert written_stepwise(path, target)
    (play,) = yaml.safe_load(target.read_text())
    names = [task.get("name") for task in play["tasks"]]
    assert names == [ANNOUNCED, None, ANNOUNCED, None, None]
    done = events(target, ("apt", 3, "ignored"), ("apt", 9, "failed"))
    done[0]["name"] = ANNOUNCED
    assert stepwise_wrongly(done) == []
    done[3]["outcome"] = "changed"
    assert len(stepwise_wrongly(done)) == 1


@pytest.mark.parametrize("case", HOST_CASES)
def test_what_is_written_step_by_step_can_be_read(case: str, tmp_path: Path) -> None:
    target = tmp_path / "stepwise.yml"
    written_stepwise(HERE / "host_cases" / f"{case}.yml", target)
    assert yaml.safe_load(target.read_text())


@pytest.mark.parametrize("case", HOST_CASES)
def test_what_is_marked_as_not_known_ahead_has_a_reason(case: str) -> None:
    text = (HERE / "host_cases" / f"{case}.yml").read_text()
    marks = {line.partition("# not known ahead: ")[2] for line in text.splitlines()} - {""}
    assert marks <= set(UNKNOWN_AHEAD)


def test_keys_that_results_lack_are_told() -> None:
    told = keys_of({"results": [{"a": 1, "_ansible_x": 1}], "msg": "", "invocation": {}})
    assert told == ["invocation", "msg", "results", "results.a"]
    ours = [["copy", "h1", "copy", ["msg", "results"]]]
    assert lacking([["copy", "h1", "copy", [*told, "src"]]], ours) == [
        "h1, result 1 (copy): lacks results.a"
    ]
