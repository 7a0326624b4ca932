"""Which modules an application will import, found without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


def imported_modules(text: str) -> tuple[str, ...]:
    """What a module imports when it is imported; not what its functions import later."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return ()  # compiling will say it better
    return tuple(dict.fromkeys(_imports(tree.body)))


def preload_of(main: str, own: Mapping[str, str], folders: Iterable[Path]) -> tuple[str, ...]:
    """Modules of the guest's Python that an application imports, in the order of first use.

    Args:
        main: The module that runs.
        own: The application's modules: their names and sources.
        folders: Where the guest's Python has its modules.
    """
    places = tuple(folders)
    found: dict[str, None] = {}
    todo, seen = [f"{main}.__main__", main], set[str]()
    while todo:
        name = todo.pop()
        if name in seen or name not in own:
            continue
        seen.add(name)
        for each in imported_modules(own[name]):
            if each in own or each.partition(".")[0] in own:
                todo.append(each)
            elif any(_is_there(folder, each) for folder in places):
                found[each] = None
    return tuple(found)


def _imports(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        match statement:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), level=0, names=names):
                yield module
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                yield from _imports(statement.orelse)
            case ast.If(body=inner, orelse=other):
                yield from _imports([*inner, *other])
            case ast.Try(body=inner, orelse=other, finalbody=last):
                yield from _imports([*inner, *other, *last])
            case ast.With(body=inner):
                yield from _imports(inner)
            case _:
                pass


def _is_there(folder: Path, module: str) -> bool:
    path = folder / module.replace(".", "/")
    if path.with_name(f"{path.name}.pyc").exists() or (path / "__init__.pyc").exists():
        return True
    return any(path.parent.glob(f"{path.name}.*.so"))
