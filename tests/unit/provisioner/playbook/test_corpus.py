"""Playbooks of the corpus end as Ansible ended them: tasks, recap, files; and the second time, too.

What Ansible did is recorded (`tests/corpus/record.py`), with ansible-core 2.19.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sappers.provisioner.playbook.tasks.options import RunOptions
from tests.corpus.case import CASES, HERE, run_ours, tree_of

RECORDED = HERE / "recorded"


@pytest.mark.parametrize("case", CASES)
def test_a_playbook_ends_as_with_ansible(case: str, tmp_path: Path) -> None:
    for wanted in json.loads((RECORDED / f"{case}.json").read_text()):
        done: dict[str, Any] = run_ours(case, tmp_path / "root").as_data()
        assert done["tasks"] == wanted["tasks"]
        assert done["recap"] == wanted["recap"]
        assert done["tree"] == wanted["tree"]


def oldest_python() -> Path:
    """One that hosts may have at the least, of those that pyenv or the machine has."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found = [*pyenv.glob("versions/3.8.*/bin/python3.8"), Path("/usr/bin/python3.8")]
    return next((one for one in found if one.exists()), found[-1])


@pytest.mark.skipif(not oldest_python().exists(), reason="no Python 3.8 on this machine")
@pytest.mark.parametrize("case", ["modules_files", "modules_more", "module_unarchive", "real_web"])
def test_hosts_with_the_oldest_python_end_as_well(case: str, tmp_path: Path) -> None:
    wanted = json.loads((RECORDED / f"{case}.json").read_text())[0]
    python = {"ansible_python_interpreter": str(oldest_python())}
    done: dict[str, Any] = run_ours(case, tmp_path / "root", extra=python).as_data()
    assert (done["tasks"], done["tree"]) == (wanted["tasks"], wanted["tree"])


def outcomes_of(case: str, root: Path, options: RunOptions) -> list[list[Any]]:
    """Task, host and outcome in order; what is ignored counts as what it is."""
    return [entry[:3] for entry in run_ours(case, root, options).tasks]


@pytest.mark.parametrize(
    "case",
    [
        "modules_files",
        "precedence",
        "filters",
        "includes",
        "module_lineinfile",
        "module_copy",
        "module_blockinfile_replace",
    ],
)
def test_check_mode_announces_what_the_run_then_does(case: str, tmp_path: Path) -> None:
    check, run = RunOptions(check=True, diff=True), RunOptions()
    for _ in range(2):
        before = tree_of(tmp_path / "root")
        announced = outcomes_of(case, tmp_path / "root", check)
        assert tree_of(tmp_path / "root") == before
        assert outcomes_of(case, tmp_path / "root", run) == announced
