"""`sappers-deploy playbook`: Ansible's playbooks, run by an engine of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sappers.cli.exit_codes import ExitCode
from sappers.cli.help_text import reflowed
from sappers.errors import ConfigError

playbook_app = typer.Typer(
    help=reflowed("Run Ansible playbooks on the hosts of an inventory, without Ansible."),
    no_args_is_help=True,
)

Inventory = Annotated[Path, typer.Option("--inventory", "-i", help="Ansible's INI inventory.")]


@playbook_app.command("run")
def run(
    playbooks: Annotated[list[Path], typer.Argument(help="Playbooks, in order.")],
    inventory: Inventory,
    *,
    limit: Annotated[
        str | None, typer.Option("--limit", "-l", help="Work on these hosts or groups only.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", "-C", help="Say what would change; change nothing.")
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", "-D", help="Show how files change.")] = False,
    extra_vars: Annotated[
        list[str] | None,
        typer.Option("--extra-vars", "-e", help="NAME=VALUE, JSON, or @FILE; over all else."),
    ] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tags", "-t", help="Only tasks with these tags.")
    ] = None,
    skip_tags: Annotated[
        list[str] | None, typer.Option("--skip-tags", help="No tasks with these tags.")
    ] = None,
    forks: Annotated[
        int, typer.Option("--forks", "-f", min=1, help="How many hosts at once.")
    ] = 20,
    become: Annotated[bool, typer.Option("--become", "-b", help="Become root by sudo.")] = False,
    become_user: Annotated[
        str | None, typer.Option("--become-user", help="Become this user instead.")
    ] = None,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Say more; -vv all of each result.")
    ] = 0,
) -> None:
    """Run playbooks. What is not supported is refused before anything runs."""
    # Imported late: SSH and templates take a moment to load, and other commands do without.
    from sappers.cli.playbook_view import TaskLines
    from sappers.provisioner.inventory import load_inventory
    from sappers.provisioner.playbook.engine import Engine
    from sappers.provisioner.playbook.load import load_playbook
    from sappers.provisioner.playbook.load_tasks import read_tags
    from sappers.provisioner.playbook.options import RunOptions

    options = RunOptions(
        check=check,
        diff=diff,
        extra=_extra(extra_vars or []),
        tags=read_tags(tags) or frozenset({"all"}),
        skip_tags=read_tags(skip_tags),
        limit=limit,
        forks=forks,
        verbosity=verbose,
        become=become,
        become_user=become_user,
    )
    plays = [play for path in playbooks for play in load_playbook(path)]
    lines = TaskLines(Console(), verbosity=verbose)
    report = Engine(load_inventory(inventory), options, lines).run(plays)
    lines.recap(report)
    if report.failed:
        raise typer.Exit(ExitCode.HOST_FAILED)
    if report.unreachable:
        raise typer.Exit(ExitCode.UNREACHABLE)


def _extra(given: list[str]) -> dict[str, Any]:
    from sappers.provisioner.playbook.extra_vars import read_extra_vars

    found: dict[str, Any] = {}
    for one in given:
        try:
            found.update(read_extra_vars(one))
        except ValueError as error:
            raise ConfigError(
                f"--extra-vars {one!r}: {error}", hint="NAME=VALUE …, a JSON object, or @FILE"
            ) from error
    return found
