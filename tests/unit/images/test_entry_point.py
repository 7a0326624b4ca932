"""Python that a definition names and that could not run is refused when it is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from sappers.errors import ImagePartError
from sappers.images.definition import ApplicationDefinition
from sappers.images.entry_point import check_entry_point

MODULE = ApplicationDefinition(module="app", files=("app",))
PREPARED = ApplicationDefinition(module="app", files=("app",), prepare="listen")
INSIDE = ApplicationDefinition(module="app", files=("app",), in_process=True)
SCRIPT = ApplicationDefinition(script="tool")


def laid(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("program", "files"),
    [
        (MODULE, {"app.py": ""}),
        (MODULE, {"app/__main__.py": ""}),
        (MODULE, {}),  # it is one of others' packages
        (PREPARED, {"app.py": "def listen(): pass"}),
        (
            PREPARED,
            {"app.py": "try:\n    from x import y as listen\nexcept ImportError: listen = 1"},
        ),
        (PREPARED, {"app.py": "from x import *"}),
        (PREPARED, {"app/__init__.py": "from .a import listen"}),
        (PREPARED, {"app.py": "def ("}),
        (INSIDE, {"app.py": "async def run(guest): pass"}),
        (SCRIPT, {"tool": "#!/usr/bin/python3\nprint(1)"}),
    ],
)
def test_what_can_run_is_taken(
    tmp_path: Path, program: ApplicationDefinition, files: dict[str, str]
) -> None:
    check_entry_point(program, laid(tmp_path, files))


@pytest.mark.parametrize(
    ("program", "files", "key", "words"),
    [
        (MODULE, {"app/a.py": ""}, "module", "no __main__.py"),
        (PREPARED, {"app.py": "def other():\n    listen = 1"}, "prepare", "no function listen"),
        (PREPARED, {"app/__init__.py": "listen()"}, "prepare", "no function listen"),
        (INSIDE, {"app.py": "def main(): run()"}, "in_process", "no function run"),
        (SCRIPT, {"tool": "#!/bin/sh\necho hi"}, "script", "no Python"),
        (SCRIPT, {"tool": "\0"}, "script", "no Python"),
    ],
)
def test_what_could_not_run_is_named(
    tmp_path: Path, program: ApplicationDefinition, files: dict[str, str], key: str, words: str
) -> None:
    with pytest.raises(ImagePartError, match=words) as caught:
        check_entry_point(program, laid(tmp_path, files))
    assert caught.value.key == f"application.{key}"
