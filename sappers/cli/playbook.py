"""`sappers-deploy playbook`: Ansible's playbooks, run by an engine of our own."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from sappers.cli.ansible_cfg import HeedsAnsibleCfg
from sappers.cli.asking import answer_to
from sappers.cli.ending import ended_at_once_by_ctrl_c
from sappers.cli.harmless import harmless
from sappers.cli.help_text import reflowed
from sappers.cli.play_options import PlayOptions, refuse_limit_to_here, takes_play_options
from sappers.cli.playbook_bootstrap import is_bootstrap, run_bootstrap
from sappers.cli.playbook_output import events_or_lines, finish
from sappers.errors import ConfigError

if TYPE_CHECKING:
    from sappers.cli.playbook_events import EventLines
    from sappers.cli.playbook_view import TaskLines
    from sappers.provisioner.playbook.journal.secret_texts import SecretTexts
    from sappers.provisioner.playbook.language.model import Play, Task
    from sappers.provisioner.playbook.run.engine import PlayOutline

playbook_app = typer.Typer(
    help=reflowed("Run Ansible playbooks on the hosts of an inventory, without Ansible."),
    no_args_is_help=True,
)


@playbook_app.command("run", cls=HeedsAnsibleCfg)
@takes_play_options
def run(
    context: typer.Context,
    playbooks: Annotated[list[Path], typer.Argument(metavar="PLAYBOOK…", help="In this order.")],
    *,
    given: PlayOptions,
    tags: Annotated[
        list[str] | None, typer.Option("--tags", "-t", help="Only tasks with these tags.")
    ] = None,
    skip_tags: Annotated[
        list[str] | None, typer.Option("--skip-tags", help="No tasks with these tags.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the last run at the task that failed.")
    ] = False,
    roles_path: Annotated[
        list[Path] | None,
        typer.Option("--roles-path", help="A folder of roles, beside the usual ones."),
    ] = None,
    force_handlers: Annotated[
        bool, typer.Option("--force-handlers", help="Run handlers of hosts that failed, too.")
    ] = False,
    start_at_task: Annotated[
        str | None, typer.Option("--start-at-task", help="Run nothing that stands before it.")
    ] = None,
    step: Annotated[bool, typer.Option("--step", help="Ask before each task.")] = False,
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
    flush_cache: Annotated[
        bool, typer.Option("--flush-cache", help="Accepted: facts are never kept for other runs.")
    ] = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Say more; -vv all of each result.")
    ] = 0,
) -> None:
    """Run playbooks. What is not supported is refused before anything runs.

    `playbooks/bootstrap.yml` is run as `sappers-deploy bootstrap` does it.

    `--resume` goes on where hosts failed or the run was cut off, by the journal that a run leaves.

    `--limit @retry` runs all of it again on the hosts that failed.
    """
    del flush_cache
    # Imported late: templates take a moment to load, and other commands do without.
    from sappers.cli.playbook_journal import RunJournal
    from sappers.cli.playbook_secrets import asker, covered_errors
    from sappers.cli.playbook_timings import Timings
    from sappers.provisioner.playbook.journal.secret_texts import SecretTexts
    from sappers.provisioner.playbook.language.load import load_playbook
    from sappers.provisioner.playbook.language.load_inherited import read_tags
    from sappers.provisioner.playbook.run.engine import Engine

    lists = syntax_check or list_hosts or list_tasks or list_tags
    if is_bootstrap(playbooks) and not lists:
        run_bootstrap(context, given, verbose)
        return
    if step and resume:
        raise ConfigError("--step and --resume do not go together", hint="leave out one of them")
    secrets = SecretTexts()
    with covered_errors(secrets):
        decrypt = given.vault_opener(secrets)
        journal = RunJournal(playbooks, given.inventory)
        options = replace(
            given.run_options(context.obj, decrypt, verbosity=verbose),
            # A list of tags is also of those that nothing runs without being asked to.
            tags=read_tags(tags)
            or frozenset({"all"} if list_tasks or not list_tags else {"all", "never"}),
            skip_tags=read_tags(skip_tags),
            limit=journal.limit(given.limit),
            start_at_task=start_at_task,
            force_handlers=force_handlers,
        )
        password, become_password = given.ask_passwords(secrets)
        plays: list[Play] = []
        for path in playbooks:
            first, *others = load_playbook(
                path,
                decrypt,
                roles_path or [],
                context.obj.collections_path(),
                options.extra,
            )
            plays += [replace(first, opens=bool(plays)), *others]
        hosts = given.hosts(options.extra, decrypt, secrets)
        refuse_limit_to_here(given.limit, hosts)
        lines = events_or_lines(given.output, verbose, secrets)
        timings = Timings(lines)
        kept = not (lists or given.check or step)
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
            ask=asker(secrets) if sys.stdin.isatty() else None,
            ledger=ledger,
            takes=_Stepper(secrets) if step else None,
        )
        engine.check(plays)
        if lists:
            for play in engine.outline(plays):
                _list(lines, play, hosts=list_hosts, tasks=list_tasks, tags=list_tags)
            return
        goes_on = "cut off; the same command goes on with --resume\n" if kept else ""
        try:
            with ended_at_once_by_ctrl_c(goes_on):
                report = engine.run(plays)
        finally:
            ledger.close()
        if profile:
            lines.profile(timings.tasks, report)
        finish(lines, report, can_resume=kept)


def _list(
    lines: TaskLines | EventLines, play: PlayOutline, *, hosts: bool, tasks: bool, tags: bool
) -> None:
    titles = play.tasks
    if tags:
        all_tags = sorted({tag for _, of_task in titles for tag in of_task})
        titles = [("tags:", all_tags), *(titles if tasks else ())]
    lines.listing(play.name, play.hosts if hosts else None, titles if tasks or tags else None)


class _Stepper:
    """Asks before each task, until it is told to go on."""

    def __init__(self, secrets: SecretTexts) -> None:
        self._secrets = secrets
        self._goes_on = False

    def __call__(self, task: Task) -> bool:
        if self._goes_on:
            return True
        title = harmless(self._secrets.hidden_text(task.title))
        answer = answer_to(
            f"run task [{title}]? (N)o/(y)es/(c)ontinue",
            hint="what was run so far is done; at a terminal "
            f"`--step --start-at-task {shlex.quote(title)}` goes on here",
        )
        self._goes_on = answer.strip().lower() in ("c", "continue")
        return self._goes_on or answer.strip().lower() in ("y", "yes")
