"""Whether Python code that a definition names is there to be run, found without running it."""

from __future__ import annotations

import ast
import symtable
from pathlib import Path

from sappers.errors import ImagePartError
from sappers.images.definition import ApplicationDefinition


def check_entry_point(program: ApplicationDefinition, files: Path) -> None:
    """Nothing, where the sidecar can run what is named; what others' packages hold is not known.

    Args:
        program: A module, or a script.
        files: The definition's own files, as sources.

    Raises:
        ImagePartError: A package is none that can be run, or a function is not there.
    """
    if program.module is None:
        _check_script(str(program.script), files)
        return
    place = files / program.module.replace(".", "/")
    function, key = program.prepare, "prepare"
    if program.in_process:
        function, key = "run", "in_process"
    if place.is_dir() and function is None and not (place / "__main__.py").is_file():
        raise ImagePartError(
            f"{program.module} is a folder, and has no __main__.py to run",
            key="application.module",
            hint="add one, or name the module in it that is to run",
        )
    source = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    if function is not None and source.is_file() and not _has(source, function):
        raise ImagePartError(
            f"{program.module} has no function {function}", key=f"application.{key}"
        )


def _check_script(script: str, files: Path) -> None:
    """Of one that is not called `.py`, which nobody compiles."""
    try:
        ast.parse((files / script).read_bytes())
    except (SyntaxError, ValueError) as error:
        raise ImagePartError(
            f"{script} is no Python: {error}",
            key="application.script",
            hint="a program of another kind is a `binary`, or a `command` of `packages`",
        ) from error


def _has(source: Path, name: str) -> bool:
    """Whether a module may have something of this name once it was imported."""
    try:
        text = source.read_text("utf-8")
        everything = (
            isinstance(one, ast.ImportFrom) and one.names[0].name == "*"
            for one in ast.walk(ast.parse(text))
        )
        if any(everything):
            return True
        table = symtable.symtable(text, str(source), "exec")
        found = table.lookup(name) if name in table.get_identifiers() else None
        return found is not None and (found.is_assigned() or found.is_imported())
    except (SyntaxError, ValueError):
        return True  # compiling says it better
