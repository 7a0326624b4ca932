"""What a template's file may ask about itself, under Ansible's names."""

from __future__ import annotations

import contextlib
import datetime
import os
import pwd
from pathlib import Path
from typing import Any

MANAGED = "Ansible managed"


def origin_of(path: Path, written: str, dest: str | None, managed: str | None) -> dict[str, Any]:
    """The variables `template_…`, and `ansible_managed` where nobody has set it.

    Args:
        written: The path as the task has it.
        dest: Where the file goes; None: nowhere (a lookup).
        managed: What `ansible_managed` is to say, with `{file}`, `{host}`, `{uid}` and the format
            of a date in it; None: a variable says it.

    Raises:
        ValueError: `managed` has other fields.
    """
    found = path.stat()
    owner: str | int = found.st_uid
    with contextlib.suppress(KeyError):  # without a name it is the number
        owner = pwd.getpwuid(found.st_uid).pw_name
    told: dict[str, Any] = {
        "template_host": os.uname().nodename,
        "template_path": written,
        "template_fullpath": str(path.absolute()),
        "template_destpath": dest,
        "template_uid": owner,
        "template_mtime": datetime.datetime.fromtimestamp(found.st_mtime),  # noqa: DTZ006 — local time, as Ansible has it
        "template_run_date": datetime.datetime.now(),  # noqa: DTZ005
    }
    if managed is not None:
        file = written.replace("%", "%%")
        try:
            text = managed.format(host=told["template_host"], uid=owner, file=file)
        except (LookupError, ValueError) as error:
            reason = f"`ansible_managed = {managed}` may ask for {{file}}, {{host}} and {{uid}}"
            raise ValueError(reason) from error
        told["ansible_managed"] = told["template_mtime"].strftime(text)
    return told
