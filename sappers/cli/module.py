"""`sappers-deploy module`: what a module of playbooks does, and which arguments it takes."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sappers.errors import ConfigError


def module(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A module; without one, all are listed.")
    ] = None,
) -> None:
    """Tell what a module of playbooks does, which arguments it takes and what it returns."""
    from sappers.provisioner.playbook import unsupported
    from sappers.provisioner.playbook.language import catalog
    from sappers.provisioner.playbook.language.keywords import instead

    console = Console()
    known = {one: catalog.spec_of(one) for one in (*catalog.names(), *catalog.FLOW)}
    if name is None:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for one, spec in sorted(known.items()):
            table.add_row(Text(one, style="bold"), spec.summary)
        console.print(table)
        return
    short = catalog.short_name(name)
    if short not in known:
        refused = unsupported.is_of_ansible(name)
        hint = unsupported.instead(name) if refused else instead(short, known, "modules")
        raise ConfigError(f"there is no module {name!r}", hint=hint)
    _show(console, short, known[short])


def _show(console: Console, name: str, spec: object) -> None:
    from sappers.provisioner.modules.spec import Module

    assert isinstance(spec, Module)
    console.print(Text.assemble((name, "bold"), f": {spec.summary}"), highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), title_justify="left")
    for heading in ("argument", "kind", "default", "meaning"):
        table.add_column(heading)
    for one in spec.arguments:
        default = "required" if one.required else "" if one.default is None else repr(one.default)
        meaning = one.help
        if one.choices:
            meaning = f"{meaning} One of {', '.join(map(repr, one.choices))}.".strip()
        if one.aliases:
            meaning = f"{meaning} Also {', '.join(one.aliases)}.".strip()
        label = f"{one.name} (free form)" if one.name == spec.free_form else one.name
        table.add_row(Text(label, style="bold"), one.kind, Text(default), Text(meaning))
    if spec.arguments:
        console.print()
        console.print(table)
    for title, pairs in (("returns", spec.returns), ("not supported", spec.unsupported)):
        if pairs:
            console.print(Text(f"\n{title}", style="bold"))
            for key, meaning in pairs:
                console.print(Text(f"  {key}: {meaning}"), highlight=False)
    for note in spec.notes:
        console.print(Text(f"\n{note}"), highlight=False)
