"""Runs tasks of playbooks: drives a module's plan step by step, and sends what came of it.

Part of what playbooks start on a host; modules come with the first task that needs them.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from sappers.provisioner.modules import step
from sappers.provisioner.remote import files, jobs, wire
from sappers.provisioner.remote import main as serving
from sappers.provisioner.remote.perform import KEPT_BYTES_MAX, Performer


class TaskRunner:
    """The operation `tasks` of an executor."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._number = 0
        self._blobs: dict[str, bytes] = {}
        self._performer = Performer(executor.runner, self._fetch)

    def run(self, head: dict[str, Any], body: bytes) -> int:
        """Run groups of tasks until one fails; how many were run.

        A group is the items of one task's loop: all of them run, even after one failed.
        """
        self._number = head["id"]
        if head["modules"]:
            self._executor.take_on(body[: head["modules"]])
        request = json.loads(zlib.decompress(body[head["modules"] :]).decode())
        self._blobs = {
            name: base64.b64decode(text) for name, text in request.get("blobs", {}).items()
        }
        self._performer.said = self._said if request.get("follow") else None
        done = 0
        for group in request["groups"]:
            failed = False
            for task in group["tasks"]:
                result = self._task(task)
                text = json.dumps(result).encode()
                event = {"id": self._number, "event": "task", "number": done}
                self._executor.send(event, zlib.compress(text, 1))
                failed = failed or bool(result.get("failed"))
                done += 1
            if failed and not group["goes_on"]:
                break
        return done

    def _task(self, task: dict[str, Any]) -> dict[str, Any]:
        if task.get("job"):
            return jobs.run(task["job"], lambda: self._task({**task, "job": None}))
        performer = self._performer
        environment = {str(k): str(v) for k, v in task.get("environment", {}).items()}
        performer.begin(
            check=task["check"], alone=task["alone"], diff=task["diff"],
            environment=environment, seconds=task.get("seconds"),
        )  # fmt: skip
        try:
            result = self._drive(task)
        except step.Failed as error:
            result = {"failed": True, "msg": error.message, **error.result}
        except files.Refused as error:
            result = {"failed": True, "msg": str(error)}
        except OSError as error:
            where = (": " + str(error.filename)) if error.filename else ""
            result = {"failed": True, "msg": (error.strerror or str(error)) + where}
        except wire.ConnectionEnded:
            raise
        except Exception as error:  # the other side shall hear of it, whatever it is
            line = _line_of(error)
            result = {"failed": True, "msg": f"the module failed: {error!r}{line}"}
        result.setdefault("changed", bool(performer.effects) and not result.get("failed"))
        if performer.diffs:
            result["diff"] = performer.diffs
        return result

    def _drive(self, task: dict[str, Any]) -> dict[str, Any]:
        args = dict(task["args"])
        for name in task.get("paths", ()):
            if isinstance(args.get(name), str):
                args[name] = os.path.expanduser(os.path.expandvars(args[name]))
        module = sys.modules["sappers.provisioner.modules." + task["module"]]
        plan = module.plan(step.Task(args, task["check"]))
        resume: Any = plan.send
        value: Any = None
        while True:
            try:
                wanted = resume(value)
            except StopIteration as end:
                return dict(end.value)
            try:
                resume, value = plan.send, self._performer.perform(wanted)
            except (OSError, files.Refused) as error:  # a module may know what it means
                resume, value = plan.throw, error

    def _said(self, data: bytes) -> None:
        """What a program writes, to whoever follows it."""
        self._executor.send({"id": self._number, "event": "said"}, data)

    def _fetch(self, blob: step.Blob) -> Iterator[bytes]:
        """A blob's content: what came with the tasks, else asked for."""
        if blob.sha256 in self._blobs:
            yield self._blobs[blob.sha256]
            return
        self._executor.send({"id": self._number, "event": "send"}, blob.sha256.encode())
        if blob.size > KEPT_BYTES_MAX:
            yield from self._executor.chunks(self._number)
            return
        self._blobs[blob.sha256] = b"".join(self._executor.chunks(self._number))
        yield self._blobs[blob.sha256]


def _line_of(error: BaseException) -> str:
    """The module's line that raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return (
        " (line %d of %s)" % (trace.tb_lineno, trace.tb_frame.f_code.co_filename) if trace else ""
    )


def attach(executor: Any) -> None:
    """Let an executor run tasks."""
    executor.operations["tasks"] = TaskRunner(executor).run


def main(load: Callable[[Any], Any]) -> None:
    """Serve, tasks too."""
    serving.main(load, attach)
