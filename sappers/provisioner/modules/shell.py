"""Runs a command line in a shell."""

from __future__ import annotations

from sappers.provisioner.modules import command, step
from sappers.provisioner.modules.spec import Argument, Module

_WITHOUT = ("argv", "expand_argument_vars")
SPEC = Module(
    "Run a command line in a shell.",
    (
        *(one for one in command.ARGUMENTS if one.name not in _WITHOUT),
        Argument("executable", "path", "The shell.", default="/bin/sh"),
    ),
    free_form="cmd",
    outward=True,
    one_of=(("cmd",),),
    returns=command.RETURNS,
    unsupported=command.UNSUPPORTED,
    notes=("Check mode skips it, unless `creates` or `removes` tell what it would do.",),
)


def plan(task: step.Task) -> step.Plan:
    """Run the shell."""
    text = task.args["cmd"]
    if not text:
        raise step.Failed("no command given", rc=256)
    return (yield from command.run(task, (task.args["executable"], "-c", text), shown=text))
