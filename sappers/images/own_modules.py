"""Modules of Sappers that an application in a guest brings along, found without running them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import sappers
from sappers.images.preload import imported_modules

_ROOT = Path(sappers.__file__).parent.parent


def find_source(module: str) -> Path | None:
    """The file of a module or package of Sappers, or None when there is none."""
    parts = module.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    path = _ROOT.joinpath(*parts)
    for source in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
        if source.is_file():
            return source
    return None


def own_modules(names: Iterable[str]) -> list[tuple[str, Path]]:
    """(place below `site-packages`, file) of modules and of all they import of Sappers, sorted.

    What is imported inside functions, or for types alone, is left out. Packages among the names are
    left to `own_packages`.
    """
    found: dict[str, Path] = {}
    todo = [name for name in names if not _is_package(name)]
    while todo:
        name = todo.pop()
        source = find_source(name)
        if source is None or name in found:
            continue
        found[name] = source
        todo += [name.rpartition(".")[0]] if "." in name else []
        todo += [
            each
            for each in imported_modules(source.read_text("utf-8"))
            if each.startswith("sappers.")
        ]
    return sorted((str(path.relative_to(_ROOT)), path) for path in found.values())


def own_packages(names: Iterable[str]) -> list[tuple[str, Path]]:
    """The same, of packages that are to come whole, as sources; sorted."""
    files = [
        path
        for name in names
        if _is_package(name)
        for path in _ROOT.joinpath(*name.split(".")).glob("*.py")
    ]
    return sorted((str(path.relative_to(_ROOT)), path) for path in files)


def _is_package(name: str) -> bool:
    source = find_source(name)
    return source is not None and source.name == "__init__.py"
