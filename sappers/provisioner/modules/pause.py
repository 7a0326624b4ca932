"""Waits for a time, or for a person."""

from __future__ import annotations

import time

from sappers.provisioner.modules import control_step, step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Wait for a time, or for a person to press return.",
    (
        Argument("minutes", "int", "How long."),
        Argument("seconds", "int", "How long."),
        Argument("prompt", "str", "What to ask."),
        Argument("echo", "bool", "Show what is typed.", default=True),
    ),
    once=True,
    exclusive=(("minutes", "seconds"),),
    returns=(
        ("user_input", "what was typed"),
        ("delta", "seconds it took"),
        ("start, stop", "when"),
        ("stdout", "how long, in words"),
    ),
    notes=(
        "Runs on the control machine, once for all hosts. Where nobody is there, nobody is asked.",
    ),
)


def conduct(task: step.Task) -> step.Plan:
    """Wait."""
    args = task.args
    began = yield control_step.Now()
    typed = None
    if args["minutes"] is not None or args["seconds"] is not None:
        yield step.Pause(max(0.0, float((args["minutes"] or 0) * 60 + (args["seconds"] or 0))))
    else:
        text = args["prompt"] or "Press enter to continue, Ctrl+C to interrupt"
        typed = yield control_step.Prompt(text, args["echo"])
    ended = yield control_step.Now()
    seconds = ended - began
    unit, duration = "seconds", round(seconds, 2)
    if args["minutes"] is not None:
        unit, duration = "minutes", round(seconds / 60, 2)
    return {
        "changed": False,
        "rc": 0,
        "stderr": "",
        "stdout": f"Paused for {duration} {unit}",
        "start": _moment(began),
        "stop": _moment(ended),
        "delta": int(seconds),
        "echo": args["echo"],
        "user_input": typed or "",
    }


def _moment(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1e6):06d}"
