"""Sets variables of the host."""

from __future__ import annotations

from typing import Any

from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Set variables of the host, for the rest of the run.",
    (Argument("cacheable", "bool", "Also set a fact of this name.", default=False),),
    any_arguments=True,
    notes=("Runs on the control machine.",),
)


def act(args: dict[str, Any], control: Any) -> dict[str, Any]:
    """The variables, as `ansible_facts`; the engine takes them."""
    del control
    values = {name: value for name, value in args.items() if name != "cacheable"}
    wrong = next((name for name in values if not name.isidentifier()), None)
    if wrong is not None:
        return {"failed": True, "msg": f"{wrong!r} is no name of a variable"}
    if not values:
        return {"failed": True, "msg": "No key/value pairs provided, at least one is required"}
    return {"changed": False, "ansible_facts": values}
