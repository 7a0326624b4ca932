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
from tests.corpus.case import CASES, HERE, Outcomes, run_ours, tree_of
from tests.corpus.keys import lacking

RECORDED = HERE / "recorded"


@pytest.mark.parametrize("case", CASES)
def test_a_playbook_ends_as_with_ansible(case: str, tmp_path: Path) -> None:
    for wanted in json.loads((RECORDED / f"{case}.json").read_text()):
        outcomes = run_ours(case, tmp_path / "root")
        done: dict[str, Any] = outcomes.as_data()
        assert done["tasks"] == wanted["tasks"]
        assert done["recap"] == wanted["recap"]
        assert done["tree"] == wanted["tree"]
        assert lacking(wanted.get("keys", []), outcomes.keys) == []


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


def outcomes_of(done: Outcomes) -> list[list[Any]]:
    """Task, host and outcome in order; what is ignored counts as what it is."""
    return [entry[:3] for entry in done.tasks]


# Of the others some tasks follow from what a program does, which check mode does not run.
ANNOUNCED = """
    filters filters_data filters_password_hash filters_text group_vars include_role
    include_tags include_tasks include_vars includes lookup_url lookups magic_more
    magic_variables meta module_accounts module_add_host module_assert_fail
    module_blockinfile_replace module_copy module_file module_group_by module_lineinfile
    module_pause modules_files named_includes pairs_serial pairs_tags pairs_tags_never
    pairs_tags_skipped pairs_tags_untagged pairs_unreachable pairs_vars_files play_facts
    play_import play_limit play_module_defaults play_patterns play_sections play_serial
    play_vars_files play_vars_prompt precedence role_arguments roles_more search_paths tags
    task_delegate_facts task_ignore_unreachable task_loops_with task_tags_skip task_vars
    template_includes template_options template_origin
""".split()  # noqa: SIM905


@pytest.mark.parametrize("case", ANNOUNCED)
def test_check_mode_announces_what_the_run_then_does(case: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for _ in range(2):
        before = tree_of(root)
        announced = run_ours(case, root, RunOptions(check=True, diff=True))
        assert tree_of(root) == before
        done = run_ours(case, root, RunOptions(diff=True))
        assert outcomes_of(done) == outcomes_of(announced)
        if case != "modules_files":  # a hard link there changes with its other name, once
            assert done.diffs == announced.diffs
