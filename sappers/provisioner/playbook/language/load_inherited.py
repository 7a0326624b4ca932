"""Loads the keywords that plays, roles, blocks and tasks hand down to the tasks below them."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from sappers.provisioner.inventory.become import method_named
from sappers.provisioner.inventory.reach import is_local
from sappers.provisioner.inventory.ssh_options import read_port
from sappers.provisioner.playbook import unsupported
from sappers.provisioner.playbook.language import catalog, keywords
from sappers.provisioner.playbook.language.load_arguments import checked_name
from sappers.provisioner.playbook.language.model import Inherited
from sappers.provisioner.source import Mapping, is_template, place_of

_READERS = {"become_method": method_named, "connection": is_local, "port": read_port}


def as_tuple(value: Any) -> tuple[Any, ...]:
    """What may be given alone or as a list."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (value,)


def inherit(parent: Inherited, item: Mapping) -> Inherited:
    """What the tasks below something inherit of it."""
    variables = item.get("vars")
    if variables is not None and not isinstance(variables, Mapping):
        raise item.at("vars").error("`vars` takes a mapping of names to values")
    keywords.refuse_variables(variables)
    environment = as_tuple(item.get("environment"))
    settings = {key: setting(item, key) for key in item if key in keywords.SETTINGS}
    _refuse_values(item)
    return replace(
        parent,
        when=(*parent.when, *as_tuple(item.get("when"))),
        tags=parent.tags | read_tags(item.get("tags")),
        environment=(*parent.environment, *environment),
        vars=(*parent.vars, variables) if variables else parent.vars,
        settings={**parent.settings, **settings} if settings else parent.settings,
        module_defaults=_module_defaults(parent, item),
        collections=(
            keywords.to_collections(item["collections"], item.at("collections"))
            if "collections" in item
            else parent.collections
        ),
    )


def setting(item: Mapping, key: str, otherwise: Any = None) -> Any:
    """What a keyword says: yes or no, where it takes that; a template stays one."""
    value = item.get(key)
    if value is None:
        return otherwise
    if key in keywords.BOOLEANS and not is_template(value):
        return keywords.to_bool(key, value, item.at(key))
    return value


def _refuse_values(item: Mapping) -> None:
    """Refuse values of keywords that can be told to be wrong before any variable is known."""
    for key, read in _READERS.items():
        if item.get(key) is not None and not is_template(item[key]):
            if not isinstance(item[key], str | int):
                raise place_of(item[key], item.at(key)).error(f"`{key}` takes a text")
            try:
                read(item[key] if key == "port" else str(item[key]))
            except ValueError as error:
                raise item.at(key).error(f"{key}: {error}") from error


def read_tags(value: Any) -> frozenset[str]:
    """Tags of a list or of a text with commas."""
    parts = [part for one in as_tuple(value) for part in str(one).split(",")]
    return frozenset(part.strip() for part in parts if part.strip())


def _module_defaults(parent: Inherited, item: Mapping) -> AnyMapping[str, AnyMapping[str, Any]]:
    given: Sequence[Any] = as_tuple(item.get("module_defaults"))
    if not given:
        return parent.module_defaults
    merged = {name: dict(values) for name, values in parent.module_defaults.items()}
    for one in given:
        for name, values in one.items() if isinstance(one, Mapping) else ():
            if not isinstance(values, Mapping):
                raise one.at(name).error("module_defaults takes a mapping for each module")
            module = catalog.short_name(name)
            if unsupported.is_of_ansible(name) and not catalog.is_known(module):
                continue  # no task can be of it
            if not catalog.is_known(module):
                raise one.at(name).error(f"there is no module `{name}`")
            checked = _arguments_of_defaults(module, values)
            merged[module] = {**merged.get(module, {}), **checked}
    return merged


def _arguments_of_defaults(module: str, values: Mapping) -> dict[str, Any]:
    return {
        checked_name(module, name, value, values.at(name)): value for name, value in values.items()
    }
