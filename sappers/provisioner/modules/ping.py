"""Tells that the host answers."""

from __future__ import annotations

from sappers.provisioner.modules import step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Tell that the host answers, and has a Python.",
    (Argument("data", "str", "What to answer; `crash` fails.", default="pong"),),
    returns=(("ping", "the value of `data`"),),
)


def plan(task: step.Task) -> step.Plan:
    """Answer."""
    if task.args["data"] == "crash":
        raise step.Failed("boom")
    yield step.Stat("/")
    return {"changed": False, "ping": task.args["data"]}
