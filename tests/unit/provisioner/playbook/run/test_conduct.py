"""Modules that are conducted from here: a host's answer need not be one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sappers.provisioner.playbook.run.conduct import conduct
from sappers.provisioner.playbook.tasks.prepared import Call


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"state": "file"},
        {"state": "file", "checksum": "x", "size": "many", "md5sum": ""},
        {"state": "file", "checksum": "x", "size": [], "md5sum": ""},
        {"state": "file", "checksum": "x", "size": 5, "md5sum": "", "content": 7},
        {"state": "file", "checksum": "x", "size": 1e400, "md5sum": "", "content": ""},
    ],
)
def test_what_makes_no_sense_fails_the_task(answer: dict[str, Any], tmp_path: Any) -> None:
    session = SimpleNamespace(run=lambda _, __, taken: taken(0, answer))
    reach: Any = SimpleNamespace(session=lambda *_: session)
    arguments = {
        "src": "/x", "dest": f"{tmp_path}/kept", "flat": True, "fail_on_missing": True,
        "validate_checksum": True, "_dest": f"{tmp_path}/kept", "_is_folder": False, "_host": "h",
    }  # fmt: skip
    call = Call("fetch", arguments, check=False, alone=False, diff=False, environment={})
    result = conduct(reach, "h", SimpleNamespace(), call, lambda _: None)  # type: ignore[arg-type]
    assert result["failed"]
    assert "makes no sense" in result["msg"]
    assert not list(tmp_path.iterdir())
