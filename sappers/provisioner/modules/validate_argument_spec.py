"""Sees whether variables are as a specification of arguments wants them."""

from __future__ import annotations

from typing import Any

from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Fail unless variables are as a specification of arguments wants them.",
    (
        Argument("argument_spec", "dict", "Names of variables, with what they have to be: `type`, "
                 "`required`, `choices`, `elements`, `options`.", required=True),
        Argument("provided_arguments", "dict", "Values that count more than variables."),
        Argument("validate_args_context", "dict", "What the result says of where it belongs."),
    ),
    returns=(("argument_errors", "what is wrong, a text each"),),
    notes=(
        "Runs on the control machine. A role with `meta/argument_specs.yml` begins with it.",
    ),
)  # fmt: skip


def act(args: dict[str, Any], control: Any) -> dict[str, Any]:
    """Whether they are."""
    names = args["argument_spec"]
    values = {name: control.variable(name) for name in names if control.is_variable(name)}
    values.update(args["provided_arguments"] or {})
    problems = control.argument_problems(names, values)
    told = {"changed": False, "validate_args_context": args["validate_args_context"] or {}}
    if not problems:
        return {**told, "msg": "The arg spec validation passed"}
    message = "Validation of arguments failed:\n" + "\n".join(problems)
    return {**told, "failed": True, "msg": message, "argument_errors": problems}
