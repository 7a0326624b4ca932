"""What a template's file may ask about itself, under Ansible's names."""

from __future__ import annotations

import contextlib
import datetime
import os
import pwd
from pathlib import Path
from typing import Any

_MANAGED = "Ansible managed"


def origin_of(
    path: Path, written: str, dest: str | None, *, is_managed_set: bool
) -> dict[str, Any]:
    """The variables `template_…`, and `ansible_managed` where nobody has set it.

    Args:
        written: The path as the task has it.
        dest: Where the file goes; None: nowhere (a lookup).
    """
    found = path.stat()
    owner: str | int = found.st_uid
    with contextlib.suppress(KeyError):  # without a name it is the number
        owner = pwd.getpwuid(found.st_uid).pw_name
    return {
        "template_host": os.uname().nodename,
        "template_path": written,
        "template_fullpath": str(path.absolute()),
        "template_destpath": dest,
        "template_uid": owner,
        "template_mtime": datetime.datetime.fromtimestamp(found.st_mtime),  # noqa: DTZ006 — local time, as Ansible has it
        "template_run_date": datetime.datetime.now(),  # noqa: DTZ005
        **({} if is_managed_set else {"ansible_managed": _MANAGED}),
    }
