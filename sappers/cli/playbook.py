"""`sappers-deploy playbook`: Ansible's playbooks, run by an engine of our own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sappers.cli.exit_codes import ExitCode
from sappers.cli.help_text import reflowed
from sappers.cli.host_options import Check, Forks, Inventory, Limit
from sappers.errors import ConfigError

if TYPE_CHECKING:
    from sappers.cli.playbook_view import TaskLines
    from sappers.provisioner.host_values import Secret
    from sappers.provisioner.playbook.engine import RunReport

playbook_app = typer.Typer(
    help=reflowed("Run Ansible playbooks on the hosts of an inventory, without Ansible."),
    no_args_is_help=True,
)


@playbook_app.command("run")
def run(
    playbooks: Annotated[list[Path], typer.Argument(help="Playbooks, in order.")],
    inventory: Inventory,
    *,
    limit: Limit = None,
    check: Check = False,
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
    forks: Forks = 20,
    become: Annotated[bool, typer.Option("--become", "-b", help="Become root by sudo.")] = False,
    become_user: Annotated[
        str | None, typer.Option("--become-user", help="Become this user instead.")
    ] = None,
    vault_password_file: Annotated[
        list[Path] | None,
        typer.Option("--vault-password-file", help="A file with a password of Vault's."),
    ] = None,
    ask_vault_pass: Annotated[
        bool, typer.Option("--ask-vault-pass", help="Ask for the password of Vault's.")
    ] = False,
    ask_become_pass: Annotated[
        bool, typer.Option("--ask-become-pass", "-K", help="Ask for the password of sudo.")
    ] = False,
    list_hosts: Annotated[
        bool, typer.Option("--list-hosts", help="List the hosts of each play; run nothing.")
    ] = False,
    list_tasks: Annotated[
        bool, typer.Option("--list-tasks", help="List the tasks of each play; run nothing.")
    ] = False,
    syntax_check: Annotated[
        bool, typer.Option("--syntax-check", help="Only see whether they can be run.")
    ] = False,
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
    decrypt = _decrypt(vault_password_file or [], ask=ask_vault_pass)
    plays = [play for path in playbooks for play in load_playbook(path, decrypt)]
    lines = TaskLines(Console(), verbosity=verbose)
    engine = Engine(
        load_inventory(inventory),
        options,
        lines,
        decrypt=decrypt,
        become_password=_asked("become password") if ask_become_pass else None,
    )
    if syntax_check or list_hosts or list_tasks:
        for play in plays:
            named = [host.name for host in engine.hosts_of(play)]
            lines.listing(
                engine.name_of(play),
                named if list_hosts else None,
                engine.tasks_of(play) if list_tasks else None,
            )
        return
    finish(lines, engine.run(plays))


def finish(lines: TaskLines, report: RunReport) -> None:
    """Show the recap, and end with Ansible's exit code.

    Raises:
        typer.Exit: A host failed (2), or was unreachable (4).
    """
    lines.recap(report)
    if report.failed:
        raise typer.Exit(ExitCode.HOST_FAILED)
    if report.unreachable:
        raise typer.Exit(ExitCode.UNREACHABLE)


def _asked(what: str) -> Secret:
    from sappers.provisioner.host_values import Secret

    return Secret(typer.prompt(what, hide_input=True, err=True))


def _decrypt(files: list[Path], *, ask: bool) -> Callable[[str], str] | None:
    """What opens Vault's envelopes with the passwords that are given; None without any."""
    from sappers.security.vault import open_vault

    try:
        passwords = [file.expanduser().read_text().strip() for file in files]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--vault-password-file: {error}") from error
    if ask:
        passwords.append(_asked("Vault password").reveal())
    return (lambda text: open_vault(text, passwords)) if passwords else None


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
