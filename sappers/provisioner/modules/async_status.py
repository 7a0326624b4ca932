"""Tells what came of a task that was left running."""

from __future__ import annotations

import json
from typing import Any, Dict

from sappers.provisioner.modules import step
from sappers.provisioner.modules.spec import Argument, Module

FOLDER = "~/.ansible_async"
# Of a task that has said nothing yet, or does not say such things.
_SILENT: Dict[str, Any] = {"stdout": "", "stderr": "", "stdout_lines": [], "stderr_lines": []}
SPEC = Module(
    "Tell what came of a task with `async` and `poll: 0`.",
    (
        Argument("jid", "str", "Its `ansible_job_id`.", required=True),
        Argument("mode", "str", "`cleanup` removes what is kept of it.", default="status",
                 choices=("cleanup", "status")),
    ),
    returns=(("finished", "whether it has"), ("started", "that it has"),
             ("erased", "with cleanup: the file"),
             ("…", "what the task itself returns, once it is finished")),
    notes=("`until: NAME is finished` waits for it.",),
)  # fmt: skip


def prepare(args: Dict[str, Any], control: Any) -> Dict[str, Any]:
    """Where the files are."""
    del args
    return {"folder": str(control.variable("ansible_async_dir") or FOLDER)}


def plan(task: step.Task) -> step.Plan:
    """Read the file, or remove it."""
    jid = task.args["jid"]
    if "/" in jid:
        raise step.Failed(f"{jid} is no job's id")
    (path,) = yield step.Expand((task.args["folder"] + "/" + jid,))
    content = yield step.Read(path)
    told: Dict[str, Any] = {"ansible_job_id": jid, "results_file": path}
    if content is None:
        raise step.Failed("could not find job", started=True, finished=True, **told)
    if task.args["mode"] == "cleanup":
        yield step.Remove(path)
        erased = {"ansible_job_id": jid, "erased": path, "started": False, "finished": False}
        return {"changed": False, **_SILENT, **erased}
    try:
        result = json.loads(content.decode("utf-8"))
    except ValueError:
        raise step.Failed(
            "Could not parse job output", started=True, finished=True, **told
        ) from None
    return {"changed": False, **_SILENT, **result}
