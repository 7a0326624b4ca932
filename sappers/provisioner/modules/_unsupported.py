"""What a task does whose module is not there, where only the run could tell that it is reached."""

from __future__ import annotations

from typing import Any

from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Fail, since there is no such module, or it has no such argument.",
    (
        Argument("problem", "raw", "The refusal.", required=True),
        Argument("msg", "str", "Place and refusal.", required=True),
    ),
)


def act(args: dict[str, Any], control: Any) -> dict[str, Any]:
    """The failure."""
    del control
    return {"failed": True, "msg": args["msg"], "unsupported": True}
