"""Tasks that go on by themselves, and outlive the executor that started them (`async`, `poll: 0`).

What came of one is in a file that `async_status` reads; it is there from the beginning, and
replaced whole when the task ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

_FILES_MAX = 4096


def run(job: dict[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do the work of a task with `async`: wait for it where `polled` says so, or leave it running.

    Args:
        job: Its `id`, the `folder` of the files, and `polled`.
        work: Gives the task's result; ends in time by itself.
    """
    if not job["polled"]:
        try:
            return _start(job, work)
        except OSError as error:
            return {"failed": True, "msg": "it cannot be left running: %s" % error}
    result = work()
    if result.get("timedout"):
        result["msg"] = "Timeout exceeded"
    return {**result, "started": True, "finished": True, "ansible_job_id": job["id"]}


def _start(job: dict[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do the work in a process of its own; what the task's result is meanwhile."""
    path = os.path.join(os.path.expanduser(job["folder"]), job["id"])
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    told: dict[str, Any] = {"started": True, "ansible_job_id": job["id"], "results_file": path}
    _write(path, {**told, "finished": False})
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there are threads; the child uses none of their locks
        child = os.fork()
    if child == 0:
        _go_on(lambda: _write(path, {**work(), **told, "finished": True}))
    os.waitpid(child, 0)
    return {**told, "finished": False, "changed": True}


def _go_on(work: Callable[[], None]) -> None:
    """Work as a process that nobody waits for; does not return."""
    try:
        os.setsid()
        if os.fork() == 0:
            _let_go()
            work()
    finally:
        os._exit(0)


def _let_go() -> None:
    """Leave the connection, which else would not end before the work does."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.closerange(3, _FILES_MAX)


def _write(path: str, result: dict[str, Any]) -> None:
    import json

    beside = path + ".new"
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(result, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, path)
