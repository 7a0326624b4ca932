"""Reads Ansible's YAML inventory, and what a dynamic inventory prints: JSON is YAML."""

from __future__ import annotations

from typing import Any

from sappers.provisioner.inventory.ranges import expand_host_pattern
from sappers.provisioner.inventory.tree import (
    Origin,
    Setting,
    Settings,
    WrittenInventory,
    as_inventory_error,
)
from sappers.provisioner.source import Decrypt, Items, Mapping, Place, place_of, read_text

_META = "_meta"
_PARTS = ("hosts", "children", "vars")


def read_yaml(text: str, path: str, decrypt: Decrypt | None = None) -> WrittenInventory:
    """Read an inventory's text.

    Raises:
        InventoryError: It is no YAML, or no inventory; with the place.
    """
    return _YamlReader(path).read(read_values(text, path, decrypt))


def read_values(text: str, path: str, decrypt: Decrypt | None = None) -> Any:
    """A YAML text as `playbook.source` reads it. Raises InventoryError."""
    with as_inventory_error(path):
        return read_text(text, path, decrypt)


def settings_of(variables: Mapping) -> Settings:
    """The variables of a mapping.

    Raises:
        InventoryError: A name is a number.
    """
    settings: Settings = {}
    for name, value in variables.items():
        origin = Origin(*variables.at(name))
        if name[:1].isdigit():
            raise origin.error(f"{name} is no name of a variable")
        settings[name] = Setting(value, origin)
    return settings


class _YamlReader:
    def __init__(self, path: str) -> None:
        self._place = Place(path, 1, 1)
        self._result = WrittenInventory()

    def read(self, root: Any) -> WrittenInventory:
        if not isinstance(root, Mapping):
            raise self._wrong(root, "an inventory is a mapping of groups", hint="begin with `all:`")
        for name, content in root.items():
            if name != _META:
                self._group(name, content, root.at(name))
        if _META in root:
            self._host_variables(root[_META], root.at(_META))
        return self._result

    def _group(self, name: str, content: Any, at: Place) -> None:
        group = self._result.group(name)
        if isinstance(content, Items):  # as a script may print it: hosts alone
            self._hosts(name, content, at)
            return
        parts = self._mapping(content, at, f"group {name}")
        for key, value in parts.items():
            place = parts.at(key)
            if key == "hosts":
                self._hosts(name, value, place)
            elif key == "children":
                self._children(name, value, place)
            elif key == "vars":
                for variable, setting in settings_of(self._mapping(value, place, key)).items():
                    group.add_setting(variable, setting)
            else:
                hint = f"a group has {', '.join(_PARTS)}; other groups go below `children`"
                raise _error(place, f"group {name} has the unknown key `{key}`", hint)

    def _hosts(self, group: str, content: Any, at: Place) -> None:
        named = self._named(content, at, "hosts")
        for pattern, variables in named.items():
            place = named.at(pattern)
            try:
                names, port = expand_host_pattern(pattern)
            except ValueError as error:
                raise _error(place, str(error)) from error
            settings = settings_of(self._mapping(variables, place, f"variables of {pattern}"))
            self._result.add_hosts(group, names, port, settings, Origin(*place))

    def _children(self, parent: str, content: Any, at: Place) -> None:
        named = self._named(content, at, "children")
        for child, below in named.items():
            self._result.link(parent, child, Origin(*named.at(child)))
            self._group(child, below, named.at(child))

    def _host_variables(self, meta: Any, at: Place) -> None:
        parts = self._mapping(meta, at, _META)
        hosts = self._mapping(parts.get("hostvars"), parts.at("hostvars"), "hostvars")
        for name, variables in hosts.items():
            settings = settings_of(self._mapping(variables, hosts.at(name), name))
            self._result.hosts.setdefault(name, {}).update(settings)

    def _named(self, content: Any, at: Place, what: str) -> Mapping:
        """Names with what belongs to them; a list or a single name has nothing that does."""
        if not isinstance(content, Items | str):
            return self._mapping(content, at, what)
        found = Mapping(at)
        for name in content if isinstance(content, Items) else [content]:
            place = place_of(name, at)
            if not isinstance(name, str):
                raise _error(place, f"{name!r} is no name", hint="quote it")
            found[name], found.places[name] = None, place
        return found

    def _mapping(self, content: Any, at: Place, what: str) -> Mapping:
        if content is None:
            return Mapping(at)
        if not isinstance(content, Mapping):
            raise self._wrong(content, f"expected a mapping: {what}", at=at)
        return content

    def _wrong(
        self, content: Any, message: str, *, at: Place | None = None, hint: str | None = None
    ) -> Exception:
        return _error(place_of(content, at or self._place), message, hint)


def _error(place: Place, message: str, hint: str | None = None) -> Exception:
    return Origin(*place).error(message, hint=hint)
