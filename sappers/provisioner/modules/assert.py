"""Fails unless all conditions hold."""

from __future__ import annotations

from typing import Any

from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Fail unless all conditions hold.",
    (
        Argument("that", "raw", "A condition as `when` has it, or a list of them.", required=True),
        Argument("fail_msg", "raw", "What to say when one does not.", aliases=("msg",)),
        Argument("success_msg", "raw", "What to say when all do."),
        Argument("quiet", "bool", "Say less.", default=False),
    ),
    notes=("Runs on the control machine.",),
)
# `that` is not rendered before: its items are expressions.
RAW = ("that",)


def act(args: dict[str, Any], control: Any) -> dict[str, Any]:
    """Whether they hold."""
    that = args["that"]
    for condition in that if isinstance(that, list) else [that]:
        if not control.holds(condition):
            return {
                "failed": True,
                "changed": False,
                "assertion": condition,
                "evaluated_to": False,
                "msg": args["fail_msg"] or "Assertion failed",
            }
    return {"changed": False, "msg": args["success_msg"] or "All assertions passed"}
