"""Installs and removes packages, by the host's own package manager."""

from __future__ import annotations

from typing import Any, Dict

from sappers.provisioner.modules import apt, dnf, step
from sappers.provisioner.modules.spec import Argument, Module

_OWN = (
    Argument("name", "list", "Packages.", aliases=("package", "pkg")),
    Argument(
        "state",
        "str",
        "Of these dnf knows all; present, where none is given.",
        choices=("absent", "installed", "latest", "present", "removed"),
    ),
    Argument("use", "str", "Accepted: the manager is found.", default="auto"),
)
_NAMES = ("name", "state", "use")
_MANAGERS = (("/usr/bin/apt-get", "apt", apt), ("/usr/bin/dnf", "dnf", dnf))
# What one of them takes is handed to it.
_MORE = {
    one.name: one._replace(default=None, help=f"For {name}. {one.help}".strip())
    for _, name, manager in reversed(_MANAGERS)
    for one in manager.SPEC.arguments
    if one.name not in _NAMES
}
SPEC = Module(
    "Install and remove packages, by the host's own package manager.",
    (*_OWN, *(_MORE[name] for name in sorted(_MORE))),
    outward=True,
    one_of=(("name", "autoremove", "deb", "update_cache", "upgrade"),),
    unsupported=(*apt.SPEC.unsupported, *dnf.SPEC.unsupported),
    returns=apt.SPEC.returns,
    notes=("Debian's apt and Fedora's dnf are known.",),
)


def plan(task: step.Task) -> step.Plan:
    """As `apt` or `dnf`."""
    for path, name, manager in _MANAGERS:
        if (yield step.Stat(path, True)) is not None:
            own: step.Plan = manager.plan(task._replace(args=_for(name, manager, task.args)))
            return (yield from own)
    raise step.Failed("no package manager that is known: only apt-get and dnf are")


def _for(name: str, manager: Any, args: Dict[str, Any]) -> Dict[str, Any]:
    """The arguments of the manager; what it has not has to be left out."""
    known = {one.name: one.default for one in manager.SPEC.arguments}
    choices = next(one.choices for one in manager.SPEC.arguments if one.name == "state")
    if args["state"] not in (None, *choices):
        wanted = ", ".join(choices)
        raise step.Failed(f"value of state must be one of: {wanted}, got: {args['state']}")
    given = {key: value for key, value in args.items() if value is not None and key != "use"}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise step.Failed(f"Unsupported parameters for ({name}) module: {', '.join(unknown)}.")
    return {**known, **given}
