"""Manual pages, made of the same definitions as `--help`: `python -m sappers.cli.man_pages FOLDER`.

A paragraph of an epilog that begins `[bold]Title.[/bold]` becomes a section of its own.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from sappers import __version__
from sappers.cli import agent, deploy
from sappers.cli.help_text import AS_IT_IS

_REST = "General"
_TITLE = re.compile(r"\[bold\]([^\[]+)\.?\[/bold\]\.?\s*")


def man_pages() -> Mapping[str, str]:
    """All pages, by file name."""
    return {
        "sappers.1": _page(agent.app, "sappers", "start an agent, or ask the one that runs"),
        "sappers-deploy.1": _page(
            deploy.deploy_app(),
            "sappers-deploy",
            "turn SSH hosts into a cluster that governs itself",
        ),
    }


def _page(app: typer.Typer, name: str, purpose: str) -> str:
    command: Any = typer.main.get_command(app)
    context = command.make_context(name, [], resilient_parsing=True)
    lines = [
        ".\\\" Made by tools/man-pages; change the command's help instead.",
        f'.TH {name.upper()} 1 "" "Sappers {__version__}" "User Commands"',
        *(".SH NAME", f"{_text(name)} \\- {_text(purpose)}"),
        *(".SH SYNOPSIS", *_synopsis(command, context)),
        *(".SH DESCRIPTION", *_prose(command.help)),
    ]
    if hasattr(command, "commands"):
        lines += [".SH OPTIONS", *_options(command, context, headings=False)]
        lines += [".SH COMMANDS", *_commands(command, context)]
    else:
        lines += [".SH OPTIONS", *_options(command, context)]
    for title, text in _sections(command.epilog):
        lines += [f".SH {title.upper()}", *_prose(text)]
    other = "sappers\\-deploy" if name == "sappers" else "sappers"
    lines += [".SH SEE ALSO", f".BR {other} (1)"]
    return "\n".join(lines) + "\n"


def _synopsis(command: Any, context: Any) -> Iterator[str]:
    yield f".B {_text(context.command_path)}"
    yield " ".join(_text(piece) for piece in command.collect_usage_pieces(context))


def _commands(group: Any, context: Any) -> Iterator[str]:
    """Every command of a group, those of groups in it in their place."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command.hidden:
            continue
        below = type(context)(command, info_name=name, parent=context)
        is_group = hasattr(command, "commands")
        if not is_group or command.invoke_without_command:
            usage = command.collect_usage_pieces(below)
            # Of a group that does something itself: its own usage, without what may follow.
            pieces = " ".join(usage[:1] if is_group else usage)
            yield f'.SS "{_text(f"{below.command_path} {pieces}")}"'
            yield from _prose(command.help)
            yield from _options(command, below, headings=False)
        if is_group:
            yield from _commands(command, below)


def _options(command: Any, context: Any, *, headings: bool = True) -> Iterator[str]:
    """Arguments and options as `--help` has them, under the titles of its panels."""
    panels: dict[str, list[Any]] = {"": [], _REST: []}
    for parameter in command.get_params(context):
        if getattr(parameter, "hidden", False):
            continue
        panel = "" if parameter.param_type_name == "argument" else _REST
        panel = getattr(parameter, "rich_help_panel", None) or panel
        panels.setdefault(panel, []).append(parameter)
    for panel in sorted(panels, key=lambda one: one == _REST):
        if headings and panel and panels[panel]:
            yield f'.SS "{_text(panel)}"'
        for parameter in panels[panel]:
            yield from _option(parameter, context)


def _option(parameter: Any, context: Any) -> Iterator[str]:
    if parameter.param_type_name == "argument":
        yield from (".TP", f".I {_text(parameter.human_readable_name)}")
    else:
        names = ", ".join(
            f"\\fB{_text(name)}\\fR" for name in (*parameter.opts, *parameter.secondary_opts)
        )
        kind = None if parameter.is_flag else parameter.make_metavar(context)
        yield from (".TP", f"{names} \\fI{_text(kind)}\\fR" if kind else names)
    yield _text(" ".join((parameter.help or "").split()))


def _sections(epilog: str | None) -> Iterator[tuple[str, str]]:
    for paragraph in inspect.cleandoc(epilog or "").split("\n\n"):
        if found := _TITLE.match(paragraph):
            yield found[1].strip(" ."), paragraph[found.end() :]


def _prose(text: str | None) -> Iterator[str]:
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        if paragraph.startswith(AS_IT_IS):
            lines = paragraph.removeprefix(AS_IT_IS).strip("\n").splitlines()
            yield from (".PP", ".RS 2", ".nf", *map(_text, lines), ".fi", ".RE")
        else:
            yield from (".PP", _text(" ".join(paragraph.split())))


def _text(text: str) -> str:
    """As roff: what it would take for its own is escaped; code and bold words are bold."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"\[/?bold\]|`", "\0", text)
    parts = text.split("\0")
    text = "".join(f"\\fB{part}\\fR" if n % 2 else part for n, part in enumerate(parts))
    text = f"\\&{text}" if text.startswith((".", "'")) else text
    # Plain groff reads no UTF-8.
    return "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in text)


def main(arguments: Sequence[str]) -> None:
    """Write all pages into a folder."""
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in man_pages().items():
        (folder / name).write_text(content)


if __name__ == "__main__":
    main(sys.argv[1:])
