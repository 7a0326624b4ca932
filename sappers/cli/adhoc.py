"""`sappers-deploy adhoc`: one module on the hosts that a pattern names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sappers.cli.host_options import Check, Forks, Source
from sappers.cli.playbook import finish


def adhoc(
    pattern: Annotated[str, typer.Argument(help="Hosts: names, groups, patterns.")],
    inventory: Source,
    *,
    module: Annotated[str, typer.Option("--module", "-m", help="The module.")] = "command",
    arguments: Annotated[str, typer.Option("--args", "-a", help="Its arguments.")] = "",
    become: Annotated[bool, typer.Option("--become", "-b", help="Become root by sudo.")] = False,
    check: Check = False,
    diff: Annotated[bool, typer.Option("--diff", "-D", help="Show how files change.")] = False,
    forks: Forks = 20,
) -> None:
    """Run one module, as a playbook of one task would; shows all of the result."""
    from sappers.cli.playbook_view import TaskLines
    from sappers.provisioner.inventory import load_inventory
    from sappers.provisioner.playbook.engine import Engine
    from sappers.provisioner.playbook.load import load_plays
    from sappers.provisioner.playbook.options import RunOptions
    from sappers.provisioner.playbook.source import Items, Mapping, Place, Text

    place = Place("(adhoc)")
    play, task, tasks = Mapping(place), Mapping(place), Items(place)
    task[module] = Text(arguments, place) if arguments else None
    tasks.append(task)
    tasks.places.append(place)
    play.update({"hosts": pattern, "gather_facts": False, "tasks": tasks, "name": "adhoc"})
    plays = Items(place)
    plays.append(play)
    plays.places.append(place)
    options = RunOptions(check=check, diff=diff, become=become, forks=forks, verbosity=1)
    lines = TaskLines(Console(), verbosity=1)
    report = Engine(load_inventory(inventory), options, lines).run(load_plays(plays, Path.cwd()))
    finish(lines, report)
