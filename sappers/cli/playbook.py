"""`sappers-deploy playbook`: Ansible's playbooks, run by an engine of our own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sappers.cli.ansible_cfg import HeedsAnsibleCfg
from sappers.cli.bootstrap import bootstrap
from sappers.cli.exit_codes import ExitCode
from sappers.cli.harmless import harmless
from sappers.cli.help_text import reflowed
from sappers.cli.host_options import Check, Forks, Limit, Sources
from sappers.cli.play_options import (
    AskBecomePass,
    AskPass,
    AskVaultPass,
    Become,
    BecomeMethod,
    BecomeUser,
    ConnectionKind,
    Diff,
    EventOutput,
    ExtraVars,
    PrivateKey,
    RolesPath,
    SkipOffline,
    SshCommonArgs,
    SshExtraArgs,
    Timeout,
    User,
    VaultId,
    VaultPasswordFile,
)
from sappers.cli.playbook_bootstrap import is_bootstrap, refuse_more_options
from sappers.cli.session import Output
from sappers.errors import ConfigError

if TYPE_CHECKING:
    from sappers.cli.playbook_events import EventLines
    from sappers.cli.playbook_view import TaskLines
    from sappers.provisioner.playbook.journal.secret_texts import SecretTexts
    from sappers.provisioner.playbook.language.model import Play, Task
    from sappers.provisioner.playbook.run.engine import Engine, RunReport

playbook_app = typer.Typer(
    help=reflowed("Run Ansible playbooks on the hosts of an inventory, without Ansible."),
    no_args_is_help=True,
)


@playbook_app.command("run", cls=HeedsAnsibleCfg)
def run(
    context: typer.Context,
    playbooks: Annotated[list[Path], typer.Argument(metavar="PLAYBOOK…", help="In this order.")],
    inventory: Sources,
    *,
    limit: Limit = None,
    check: Check = False,
    diff: Diff = False,
    extra_vars: ExtraVars = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tags", "-t", help="Only tasks with these tags.")
    ] = None,
    skip_tags: Annotated[
        list[str] | None, typer.Option("--skip-tags", help="No tasks with these tags.")
    ] = None,
    forks: Forks = 20,
    user: User = None,
    private_key: PrivateKey = None,
    connection: ConnectionKind = None,
    ssh_common_args: SshCommonArgs = None,
    ssh_extra_args: SshExtraArgs = None,
    timeout: Timeout = None,
    become: Become = False,
    become_user: BecomeUser = None,
    become_method: BecomeMethod = None,
    vault_password_file: VaultPasswordFile = None,
    vault_id: VaultId = None,
    ask_vault_pass: AskVaultPass = False,
    ask_become_pass: AskBecomePass = False,
    ask_pass: AskPass = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the last run at the task that failed.")
    ] = False,
    roles_path: RolesPath = None,
    force_handlers: Annotated[
        bool, typer.Option("--force-handlers", help="Run handlers of hosts that failed, too.")
    ] = False,
    start_at_task: Annotated[
        str | None, typer.Option("--start-at-task", help="Run nothing that stands before it.")
    ] = None,
    step: Annotated[bool, typer.Option("--step", help="Ask before each task.")] = False,
    skip_offline: SkipOffline = False,
    output: EventOutput = Output.TEXT,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show where the time went, by task and host.")
    ] = False,
    list_hosts: Annotated[
        bool, typer.Option("--list-hosts", help="List the hosts of each play; run nothing.")
    ] = False,
    list_tasks: Annotated[
        bool, typer.Option("--list-tasks", help="List the tasks of each play; run nothing.")
    ] = False,
    list_tags: Annotated[
        bool, typer.Option("--list-tags", help="List the tags of each play; run nothing.")
    ] = False,
    syntax_check: Annotated[
        bool, typer.Option("--syntax-check", help="Only see whether they can be run.")
    ] = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Say more; -vv all of each result.")
    ] = 0,
) -> None:
    """Run playbooks. What is not supported is refused before anything runs.

    `playbooks/bootstrap.yml` is run as `sappers-deploy bootstrap` does it.

    A run leaves a journal. `--resume` goes on with it where hosts failed or the run was cut off;
    `--limit @retry` runs all of it again on the hosts that failed.
    """
    # Imported late: SSH and templates take a moment to load, and other commands do without.
    from sappers.provisioner.connection.ssh_import import import_ssh

    import_ssh()
    from sappers.cli import playbook_secrets
    from sappers.cli.playbook_journal import RunJournal
    from sappers.cli.playbook_timings import Timings
    from sappers.provisioner.inventory.inventory import load_inventory
    from sappers.provisioner.playbook.journal.secret_texts import SecretTexts
    from sappers.provisioner.playbook.language.load import load_playbook
    from sappers.provisioner.playbook.language.load_inherited import read_tags
    from sappers.provisioner.playbook.run.engine import Engine
    from sappers.provisioner.playbook.tasks.options import RunOptions

    if is_bootstrap(playbooks) and not (syntax_check or list_hosts or list_tasks or list_tags):
        refuse_more_options(context)
        if len(inventory) > 1:
            raise ConfigError("bootstrap takes one inventory", hint="put both into one file")
        bootstrap(
            Path(inventory[0]),
            limit=limit,
            check=check,
            forks=forks,
            verbose=verbose > 0,
            output=output,
        )
        return
    if step and resume:
        raise ConfigError("--step and --resume do not go together", hint="leave out one of them")
    secrets = SecretTexts()
    with playbook_secrets.covered_errors(secrets):
        decrypt = playbook_secrets.vault_opener(
            vault_password_file or [], secrets, ids=vault_id or [], ask=ask_vault_pass
        )
        journal = RunJournal(playbooks, inventory)
        options = RunOptions(
            check=check,
            diff=diff,
            extra=extra_variables(extra_vars or [], decrypt),
            tags=read_tags(tags) or frozenset({"all"}),
            skip_tags=read_tags(skip_tags),
            limit=journal.limit(limit),
            forks=forks,
            verbosity=verbose,
            start_at_task=start_at_task,
            skip_offline=skip_offline,
            user=user,
            private_key_file=private_key,
            connection=connection,
            ssh_arguments=context.obj.ssh_arguments(ssh_common_args, ssh_extra_args, timeout),
            become=become,
            become_user=become_user,
            become_method=become_method,
            force_handlers=force_handlers,
        )
        password, become_password = playbook_secrets.ask_passwords(
            secrets, ssh=ask_pass, become=ask_become_pass
        )
        plays = [
            play for path in playbooks for play in load_playbook(path, decrypt, roles_path or [])
        ]
        hosts = load_inventory(inventory, decrypt, options.extra)
        playbook_secrets.add_passwords(hosts, secrets)
        lines = events_or_lines(output, verbose, secrets)
        timings = Timings(lines)
        lists = syntax_check or list_hosts or list_tasks or list_tags
        kept = not (lists or check or step)
        if resume:
            ledger, options = journal.resume(plays, options, secrets, kept=kept, say=lines.note)
        else:
            ledger = journal.begin(plays, options, secrets, kept=kept)
        engine = Engine(
            hosts,
            options,
            timings,
            decrypt=decrypt,
            become_password=become_password,
            password=password,
            ask=playbook_secrets.asker(secrets) if sys.stdin.isatty() else None,
            ledger=ledger,
            takes=_Stepper(secrets) if step else None,
        )
        engine.check(plays)
        if lists:
            _list(lines, engine, plays, hosts=list_hosts, tasks=list_tasks, tags=list_tags)
            return
        try:
            report = engine.run(plays)
        except KeyboardInterrupt:
            if kept:
                typer.echo("cut off; the same command goes on with --resume", err=True)
            raise
        finally:
            ledger.close()
        if profile:
            lines.profile(timings.tasks, report)
        finish(lines, report, can_resume=kept)


def _list(
    lines: TaskLines | EventLines,
    engine: Engine,
    plays: list[Play],
    *,
    hosts: bool,
    tasks: bool,
    tags: bool,
) -> None:
    """Show what would be run, and run nothing."""
    for play in engine.outline(plays):
        titles = play.tasks
        if tags:
            all_tags = sorted({tag for _, of_task in titles for tag in of_task})
            titles = [("tags:", all_tags), *(titles if tasks else ())]
        lines.listing(play.name, play.hosts if hosts else None, titles if tasks or tags else None)


def events_or_lines(
    output: Output, verbosity: int, secrets: SecretTexts, *, adhoc: bool = False
) -> TaskLines | EventLines:
    """What shows a run, as `--output` says; covers secrets."""
    from sappers.cli.playbook_events import EventLines
    from sappers.cli.playbook_view import TaskLines

    if output is Output.JSON:
        return EventLines(typer.echo, secrets)
    return TaskLines(Console(), verbosity=verbosity, secrets=secrets, adhoc=adhoc)


class _Stepper:
    """Asks before each task, until it is told to go on."""

    def __init__(self, secrets: SecretTexts) -> None:
        self._secrets = secrets
        self._goes_on = False

    def __call__(self, task: Task) -> bool:
        if self._goes_on:
            return True
        title = harmless(self._secrets.hidden_text(task.title))
        question = f"run task [{title}]? (N)o/(y)es/(c)ontinue"
        answer = typer.prompt(question, default="n", show_default=False, err=True)
        self._goes_on = answer.strip().lower() in ("c", "continue")
        return self._goes_on or answer.strip().lower() in ("y", "yes")


def finish(lines: TaskLines | EventLines, report: RunReport, *, can_resume: bool = False) -> None:
    """Show the recap, and end with Ansible's exit code.

    Raises:
        typer.Exit: A host failed (2), or was unreachable (4).
    """
    lines.recap(report)
    if can_resume and (report.failed or report.unreachable):
        hint = "the same command goes on where it failed with --resume, and begins anew"
        typer.echo(f"{hint} on the hosts that failed with --limit @retry", err=True)
    if report.failed:
        raise typer.Exit(ExitCode.HOST_FAILED)
    if report.unreachable:
        raise typer.Exit(ExitCode.UNREACHABLE)


def extra_variables(
    given: list[str], decrypt: Callable[[str], str] | None = None
) -> dict[str, Any]:
    """The variables of all `-e`.

    Args:
        decrypt: Opens files that are encrypted with Vault.

    Raises:
        ConfigError: One is malformed.
    """
    from sappers.provisioner.playbook.language.extra_vars import read_extra_vars

    found: dict[str, Any] = {}
    for one in given:
        try:
            found.update(read_extra_vars(one, decrypt))
        except ValueError as error:
            raise ConfigError(
                f"--extra-vars {one!r}: {error}", hint="NAME=VALUE …, a JSON object, or @FILE"
            ) from error
    return found
