"""Waits until a host can be worked on."""

from __future__ import annotations

from sappers.provisioner.modules import control_step, step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Wait until a host can be logged in to and has a Python.",
    (
        Argument("delay", "int", "Seconds before the first try.", default=0),
        Argument("sleep", "int", "Seconds between tries.", default=1),
        Argument("timeout", "int", "Seconds until it fails.", default=600),
        Argument("connect_timeout", "int", "Accepted: a try has 10 seconds.", default=5),
    ),
    outward=True,
    returns=(("elapsed", "seconds it took"),),
    notes=("Check mode skips it.",),
)


def conduct(task: step.Task) -> step.Plan:
    """Try again and again."""
    args = task.args
    if task.check:
        return {"skipped": True}
    began = yield step.Pause(0.0)
    yield step.Pause(float(args["delay"]))
    while True:
        answer = yield control_step.OnHost("ping", {})
        now = yield step.Pause(0.0)
        elapsed = int(now - began)
        if not answer.get("failed"):
            return {"changed": False, "elapsed": elapsed}
        if now - began >= args["timeout"]:
            message = "timed out waiting for ping module test: {}".format(answer.get("msg"))
            raise step.Failed(message, elapsed=elapsed)
        yield control_step.Disconnect()
        yield step.Pause(float(args["sleep"]))
