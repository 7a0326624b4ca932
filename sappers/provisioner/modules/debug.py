"""Shows a message or a variable."""

from __future__ import annotations

from typing import Any

from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Show a message or a variable.",
    (
        Argument("msg", "raw", "What to show.", default="Hello world!"),
        Argument("var", "raw", "The variable or expression to show, without braces."),
        Argument("verbosity", "int", "Only with so many -v.", default=0),
    ),
    exclusive=(("msg", "var"),),
    notes=("Runs on the control machine.",),
)
# `var` is not rendered before: what it yields would be taken for an expression, and run.
RAW = ("var",)


def act(args: dict[str, Any], control: Any) -> dict[str, Any]:
    """The result that shows it."""
    if args["verbosity"] > control.verbosity:
        return {"skipped": True, "skipped_reason": "Verbosity threshold not met."}
    if args["var"] is None:
        return {"msg": args["msg"], "changed": False}
    return {str(args["var"]): control.evaluate_or_say(args["var"]), "changed": False}
