"""Loads arguments of modules: of tasks, and of `module_defaults`."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from typing import Any

from sappers.errors import PlaybookError
from sappers.provisioner.inventory.reach import why_refused
from sappers.provisioner.playbook import unsupported
from sappers.provisioner.playbook.language import catalog
from sappers.provisioner.playbook.language.arguments import (
    ArgumentError,
    Unbalanced,
    canonical,
    check_presence,
    parse_free_form,
    typed,
)
from sappers.provisioner.playbook.templates.text_places import place_within
from sappers.provisioner.source import Mapping, Place, Text, holds_template, is_template, place_of


def load_arguments(
    module: str, given: Any, more: Any, place: Place, defaults: AnyMapping[str, Any]
) -> dict[str, Any]:
    """Arguments by their own names, of which those without templates are known to be right.

    Args:
        given: What stands behind the module's name.
        more: What `args` says beside.

    Raises:
        PlaybookError: One is unknown, missing or wrong; at its place.
    """
    spec = catalog.spec_of(module)
    found = _written(module, given, place)
    if isinstance(more, Mapping):
        found = {**more, **found}
    elif more is not None:
        raise place.error("`args` takes a mapping of arguments", hint="write them out")
    values: dict[str, Any] = dict(defaults)
    for name, value in found.items():
        source = given if isinstance(given, Mapping) and name in given else more
        at = source.at(name) if isinstance(source, Mapping) else place
        _refuse_name(module, name, value, at)
        values[checked_name(module, name, value, at)] = value
    if not spec.any_arguments:
        try:
            check_presence(values, spec, sure=lambda value: not is_template(value))
        except ArgumentError as error:
            hint = error.hint or f"sappers-deploy module {module}"
            raise place.error(f"{module}: {error}", hint=hint) from error
    return values


def _written(module: str, given: Any, place: Place) -> dict[str, Any]:
    """Arguments as they are written: a mapping, or a free form."""
    spec = catalog.spec_of(module)
    if given is None or isinstance(given, Mapping):
        return dict(given or {})
    if isinstance(given, list) and spec.free_form:
        return {spec.free_form: given}
    at = place_of(given, place)
    try:
        parsed = parse_free_form(str(given), spec)
    except ValueError as error:
        if isinstance(error, Unbalanced):
            at = place_within(str(given), at, error.offset)
        hint = getattr(error, "hint", None)
        raise at.error(f"{module}: {error}", hint=hint) from error
    return {name: Text(value, at) for name, value in parsed.items()}


def _refuse_name(module: str, name: str, value: Any, at: Place) -> None:
    """Refuse what is no variable, where arguments are variables."""
    if catalog.spec_of(module).any_arguments and (hint := why_refused(name, value)):
        raise at.error(f"the variable `{name}` is not supported", hint=hint)
    if module == "set_fact" and not (is_template(name) or name.isidentifier()):
        raise at.error(f"{name!r} is no name of a variable", hint="letters, digits and _")


def checked_name(module: str, name: str, value: Any, at: Place) -> str:
    """The own name of an argument. Raises PlaybookError: there is none such, or it is wrong."""
    spec = catalog.spec_of(module)
    try:
        own = canonical(name, spec)
    except ArgumentError as error:
        kind = unsupported.Unsupported if name in dict(spec.unsupported) else PlaybookError
        raise kind(
            f"{module}: {error}", path=at.path, line=at.line, column=at.column, hint=error.hint
        ) from error
    try:
        for argument in spec.arguments:
            if argument.name == own and value is not None and not holds_template(value):
                typed(value, argument)
    except ArgumentError as error:
        hint = error.hint or f"sappers-deploy module {module}"
        raise place_of(value, at).error(f"{module}: {error}", hint=hint) from error
    return own
