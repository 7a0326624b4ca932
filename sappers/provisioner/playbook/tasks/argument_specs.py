"""Specifications of a role's arguments, as `meta/argument_specs.yml` has them; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sappers.provisioner.modules.spec import Argument
from sappers.provisioner.playbook.language.arguments import ArgumentError, typed

# Of Ansible's kinds those that a value can fail to be.
_KINDS = frozenset({"bool", "dict", "float", "int", "list", "path", "str"})


def problems_of(options: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """What is wrong with values, a text each; a value that is None counts as not given."""
    missing = [
        name
        for name, option in options.items()
        if str(option.get("required")).lower() in ("true", "yes") and values.get(name) is None
    ]
    found = [f"missing required arguments: {', '.join(sorted(missing))}"] if missing else []
    for name, option in options.items():
        if values.get(name) is not None:
            found += _problems_of_one(name, option, values[name])
    return found


def _problems_of_one(name: str, option: Mapping[str, Any], value: Any) -> list[str]:
    kind, elements = str(option.get("type", "str")), str(option.get("elements", "raw"))
    try:
        value = typed(
            value,
            Argument(
                name,
                kind if kind in _KINDS else "raw",
                elements=elements if elements in _KINDS else "raw",
            ),
        )
    except ArgumentError as error:
        return [f"argument '{name}' is of another type than {kind}: {error}"]
    choices = option.get("choices") or []
    wrong = [one for one in _each(value) if choices and one not in choices]
    if wrong:
        listed = ", ".join(map(str, choices))
        return [f"value of {name} must be one of: {listed}, got: {', '.join(map(str, wrong))}"]
    below = option.get("options")
    if not below:
        return []
    return [
        f"{problem} found in {name}"
        for one in _each(value)
        if isinstance(one, Mapping)
        for problem in (*problems_of(below, one), *_unknown(below, one))
    ]


def _unknown(options: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    known = {alias for one in options.values() for alias in one.get("aliases") or ()} | {*options}
    names = sorted(str(name) for name in values if name not in known)
    return [f"unsupported parameters: {', '.join(names)}"] if names else []


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
