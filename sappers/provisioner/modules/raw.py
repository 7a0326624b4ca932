"""Runs a command line on a host that may have no Python."""

from __future__ import annotations

from sappers.provisioner.modules import control_step, step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Run a command line in the host's shell; the host needs no Python.",
    (
        Argument("cmd", "str", "The command line.", required=True),
        Argument("executable", "str", "The shell that runs it."),
    ),
    free_form="cmd",
    outward=True,
    returns=(("rc", "exit code"), ("stdout, stderr", "what it wrote")),
    notes=(
        "Plays for such hosts have `gather_facts: false`. `environment` has no effect on it. "
        "Check mode skips it.",
    ),
)


def conduct(task: step.Task) -> step.Plan:
    """Run it, without the executor."""
    args = task.args
    if task.check:
        return {"skipped": True}
    done = yield control_step.Raw(args["cmd"], args["executable"])
    result = {"changed": True, "rc": done.code, "stdout": done.out, "stderr": done.err}
    if done.code:
        result.update(failed=True, msg="non-zero return code")
    return result
