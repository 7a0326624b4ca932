"""Reads `group_vars/` and `host_vars/`: YAML 1.1, as Ansible reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode

from sappers.errors import InventoryError
from sappers.provisioner.inventory_ini import Origin, Setting, Settings

_EXTENSIONS = ("", ".yml", ".yaml", ".json")


def read_settings(folder: Path, name: str) -> Settings:
    """Variables of the group or host `name` below `folder` (`group_vars` or `host_vars`).

    They are in the folder or file `name`, else in `name.yml`, `name.yaml` or `name.json`.

    Raises:
        InventoryError: A file cannot be read, is no YAML, or no mapping of names to values.
    """
    if "/" in name:
        return {}
    for extension in _EXTENSIONS:
        path = folder / f"{name}{extension}"
        if path.is_dir():
            return _merge(_files_below(path))
        if path.exists():
            return _merge([path])
    return {}


def _files_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.startswith(".") or path.name.endswith("~"):
            continue
        if path.is_dir() and not path.suffix:
            found += _files_below(path)
        elif path.is_file() and path.suffix in _EXTENSIONS:
            found.append(path)
    return found


def _merge(paths: list[Path]) -> Settings:
    merged: Settings = {}
    for path in paths:
        merged |= _read_file(path)
    return merged


def _read_file(path: Path) -> Settings:
    origin = Origin(str(path))
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise origin.error(f"cannot be read: {reason}") from error
    if text.startswith("$ANSIBLE_VAULT"):
        raise origin.error("Ansible Vault is not supported", hint="decrypt it, and chmod 0600")
    try:
        root = _yaml().compose(text)
        values = _yaml().load(text)
    except MarkedYAMLError as error:
        raise _syntax_error(path, error) from error
    except (YAMLError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        # Constructors of dates and numbers raise what they like.
        raise origin.error(f"no valid YAML: {str(error).splitlines()[0]}") from error
    return {} if values is None else _settings(path, root, values)


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)  # `yes` is true and 0755 is octal, as for Ansible
    return yaml


def _settings(path: Path, root: Any, values: Any) -> Settings:
    if not isinstance(root, MappingNode) or not isinstance(values, dict):
        raise Origin(str(path), 1, 1).error("expected a mapping of variable names to values")
    settings: Settings = {}
    origins = [
        Origin(str(path), key.start_mark.line + 1, key.start_mark.column + 1)
        for key, _ in root.value
    ]
    places = {key.value: place for (key, _), place in zip(root.value, origins, strict=True)}
    for key, value in values.items():
        if not isinstance(key, str):
            place = places.get(str(key), Origin(str(path)))
            raise place.error(f"{key!r} is no name of a variable")
        settings[key] = Setting(value, places.get(key, Origin(str(path))))
    return settings


def _syntax_error(path: Path, error: MarkedYAMLError) -> InventoryError:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or error.context or "no valid YAML"
    hint = None
    if "!vault" in problem:
        problem, hint = "Ansible Vault is not supported", "decrypt the value, and chmod 0600"
    return InventoryError(
        problem.splitlines()[0],
        path=str(path),
        line=mark.line + 1 if mark else None,
        column=mark.column + 1 if mark else None,
        hint=hint,
    )
