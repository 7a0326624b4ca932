"""Installs and removes packages, by the host's own package manager."""

from __future__ import annotations

from sappers.provisioner.modules import apt, step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Install and remove packages, by the host's own package manager.",
    (
        Argument("name", "list", "Packages.", required=True),
        Argument("state", "str", "", required=True, choices=("absent", "latest", "present")),
        Argument("use", "str", "Accepted: the manager is found.", default="auto"),
    ),
    outward=True,
    returns=apt.SPEC.returns,
    notes=("Debian's apt is the one that is known so far.",),
)


def plan(task: step.Task) -> step.Plan:
    """As `apt`."""
    if (yield step.Stat("/usr/bin/apt-get", True)) is None:
        raise step.Failed("no package manager that is known: only apt-get is")
    defaults = {one.name: one.default for one in apt.SPEC.arguments}
    return (yield from apt.plan(task._replace(args={**defaults, **task.args})))
