"""Playbooks of the corpus end as Ansible ended them: tasks, recap, files; and the second time, too.

What Ansible did is recorded (`tests/corpus/record.py`), with ansible-core 2.19.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.case import CASES, HERE, run_ours

RECORDED = HERE / "recorded"


@pytest.mark.parametrize("case", CASES)
def test_a_playbook_ends_as_with_ansible(case: str, tmp_path: Path) -> None:
    for wanted in json.loads((RECORDED / f"{case}.json").read_text()):
        done: dict[str, Any] = run_ours(case, tmp_path / "root").as_data()
        assert done["tasks"] == wanted["tasks"]
        assert done["recap"] == wanted["recap"]
        assert done["tree"] == wanted["tree"]
