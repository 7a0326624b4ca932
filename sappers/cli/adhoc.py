"""`sappers-deploy adhoc`: one module on the hosts that a pattern names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sappers.cli.ending import ended_at_once_by_ctrl_c
from sappers.cli.play_options import PlayOptions, takes_play_options
from sappers.cli.playbook_output import events_or_lines, finish

if TYPE_CHECKING:
    from sappers.provisioner import source
    from sappers.provisioner.playbook.language.model import Play


@takes_play_options
def adhoc(
    context: typer.Context,
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="Hosts: names, groups, patterns.")
    ],
    *,
    given: PlayOptions,
    module: Annotated[str, typer.Option("--module", "-m", help="The module.")] = "command",
    arguments: Annotated[str, typer.Option("--args", "-a", help="Its arguments.")] = "",
    background: Annotated[
        int | None,
        typer.Option("--background", "-B", min=1, help="Let it run on by itself, so many seconds."),
    ] = None,
    poll: Annotated[
        int,
        typer.Option("--poll", "-P", min=0, help="With -B: look every so many seconds; 0: do not."),
    ] = 15,
    list_hosts: Annotated[
        bool, typer.Option("--list-hosts", help="List the hosts; run nothing.")
    ] = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Say all of each result.")
    ] = 0,
) -> None:
    """Run one module, as a playbook of one task would; shows all of the result."""
    from sappers.cli.playbook_secrets import covered_errors
    from sappers.provisioner.playbook.journal.ledger import Ledger
    from sappers.provisioner.playbook.journal.secret_texts import SecretTexts
    from sappers.provisioner.playbook.run.engine import Engine

    secrets = SecretTexts()
    with covered_errors(secrets):
        decrypt = given.vault_opener(secrets)
        options = given.run_options(context.obj, decrypt, verbosity=1 + verbose)
        keywords = {} if background is None else {"async": background, "poll": poll}
        if list_hosts:  # none is run, and what is said of it is not looked at
            module, arguments, keywords = "ping", "", {}
        plays = _plays(pattern, module, arguments, keywords)
        hosts = given.hosts(options.extra, decrypt, secrets)
        password, become_password = given.ask_passwords(secrets)
        lines = events_or_lines(given.output, 1 + verbose, secrets, adhoc=True)
        engine = Engine(
            hosts,
            options,
            lines,
            decrypt=decrypt,
            password=password,
            become_password=become_password,
            ledger=Ledger(secrets=secrets),
        )
        engine.check(plays)
        if list_hosts:
            [play] = engine.outline(plays)
            lines.listing(pattern, play.hosts, None)
            return
        with ended_at_once_by_ctrl_c():
            report = engine.run(plays)
        finish(lines, report)


def _plays(pattern: str, module: str, arguments: str, keywords: Mapping[str, int]) -> list[Play]:
    """A playbook of one task.

    Raises:
        PlaybookError: There is no such module, or it takes other arguments.
    """
    from sappers.provisioner import source
    from sappers.provisioner.playbook.language.load import load_plays

    place = source.Place("(adhoc)")
    play, task = source.Mapping(place), source.Mapping(place)
    tasks, plays = source.Items(place), source.Items(place)
    task[module] = _as_json(arguments) or (source.Text(arguments, place) if arguments else None)
    task.update(keywords)
    play.update({"hosts": pattern, "gather_facts": False, "tasks": tasks, "name": "adhoc"})
    for items, one in ((tasks, task), (plays, play)):
        items.append(one)
        items.places.append(place)
    return list(load_plays(plays, Path.cwd()))


def _as_json(arguments: str) -> source.Mapping | None:
    """Arguments that are a JSON object, as Ansible takes them, too; None: they are none."""
    from sappers.provisioner import source

    try:
        found = json.loads(arguments)
    except ValueError:
        return None
    return source.read_text(arguments, "(adhoc)") if isinstance(found, dict) else None
