"""Reads `group_vars/` and `host_vars/`: YAML 1.1, as Ansible reads it."""

from __future__ import annotations

from pathlib import Path

from sappers.provisioner.inventory.tree import Origin, Settings, as_inventory_error
from sappers.provisioner.inventory.yaml import settings_of
from sappers.provisioner.source import Decrypt, Mapping, place_of, read_file
from sappers.provisioner.source import Place as SourcePlace

_EXTENSIONS = ("", ".yml", ".yaml", ".json")


def read_settings(folder: Path, name: str, decrypt: Decrypt | None = None) -> Settings:
    """Variables of the group or host `name` below `folder` (`group_vars` or `host_vars`).

    They are in the folder or file `name`, else in `name.yml`, `name.yaml` or `name.json`.

    Raises:
        InventoryError: A file cannot be read, is no YAML, no mapping of names to values, or
            encrypted and there is no password.
    """
    if "/" in name:
        return {}
    for extension in _EXTENSIONS:
        path = folder / f"{name}{extension}"
        if path.is_dir():
            return _merge(_files_below(path), decrypt)
        if path.exists():
            return _merge([path], decrypt)
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


def _merge(paths: list[Path], decrypt: Decrypt | None) -> Settings:
    merged: Settings = {}
    for path in paths:
        merged |= _read_file(path, decrypt)
    return merged


def _read_file(path: Path, decrypt: Decrypt | None) -> Settings:
    with as_inventory_error(str(path)):
        values = read_file(path, decrypt)
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        at = place_of(values, SourcePlace(str(path), 1, 1))
        raise Origin(*at).error("expected a mapping of variable names to values")
    return settings_of(values)
