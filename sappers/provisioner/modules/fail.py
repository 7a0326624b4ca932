"""Fails, with a message."""

from __future__ import annotations

from typing import Any

from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Fail, with a message.",
    (Argument("msg", "str", "Why.", default="Failed as requested from task"),),
    notes=("Runs on the control machine.",),
)


def act(args: dict[str, Any], control: Any) -> dict[str, Any]:
    """The failure."""
    del control
    return {"failed": True, "msg": args["msg"]}
