"""`sappers-deploy image build`, `schema`: images from their definitions."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sappers.assembly.images import LocalImages, definitions_folders
from sappers.cli.ending import interrupted_by_signals
from sappers.cli.status_view import plain
from sappers.config import control_home
from sappers.errors import ImageError
from sappers.images.builder import Report
from sappers.images.definition import (
    DEFINITION_FILE,
    ImageDefinition,
    definition_schema,
    find_definitions,
    load_definition,
    placing,
)


def build(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The definition's folder.")],
    kind: Annotated[
        str | None,
        typer.Option("--kind", help="One of the definition's kinds; the first if not given."),
    ] = None,
    definitions: Annotated[
        Path | None, typer.Option("--definitions", help="Folder of image definitions.")
    ] = None,
) -> None:
    """Build the image that DEFINITIONS/NAME/image.toml describes; nothing to do if it is built."""
    folders = (definitions,) if definitions else definitions_folders(Path.cwd())
    folder = find_definitions(folders, name)
    definition = load_definition(folder, name)
    stored, wanted = stored_name(name, definition, kind)
    images = LocalImages(control_home(os.environ))
    builder = images.builder(wanted)
    console = Console(stderr=True)
    began = time.monotonic()
    with interrupted_by_signals(), _Steps(console, stored) as report, placing(folder, name):
        digest, built = builder.build(stored, definition, folder / name, report)
    manifest = images.store.manifest(digest)
    assert manifest is not None
    what = "built" if built else "is up to date:"
    size_mib, seconds = manifest.size_bytes / 2**20, time.monotonic() - began
    line = f"{stored} {what} {digest[:12]}, {size_mib:.1f} MiB, {seconds:.1f} s"
    console.print(plain(line), soft_wrap=True)
    typer.echo(digest)


def schema() -> None:
    """Print the JSON Schema of image.toml, for editors."""
    text = msgspec.json.encode(definition_schema())
    typer.echo(msgspec.json.format(text, indent=2).decode())


def stored_name(name: str, definition: ImageDefinition, kind: str | None) -> tuple[str, str]:
    """What the image is stored as, and its kind: the definition's first has the plain name.

    Raises:
        ImageError: The definition cannot be built as that.
    """
    if kind is None or kind == definition.kinds[0]:
        return name, definition.kinds[0]
    if kind not in definition.kinds:
        raise ImageError(
            f"{name} cannot be built as {kind}: its kinds are {', '.join(definition.kinds)}",
            hint=f"add it to `kinds` in {name}/{DEFINITION_FILE}",
        )
    return f"{name}-{kind}", kind


class _Steps:
    """The step at work and the time since the beginning; elsewhere a line for each step."""

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._name = name
        self._said = ""
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(name, total=None)

    def __enter__(self) -> Report:
        if self._console.is_terminal:
            self._bar.start()
        return self._report

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def _report(self, step: str) -> None:
        line = plain(f"{self._name}: {step}")
        self._bar.update(self._task, description=str(line))
        if not self._console.is_terminal and step != self._said:
            self._console.print(line, soft_wrap=True)
        self._said = step
