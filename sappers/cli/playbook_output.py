"""How a run is shown, as `--output` says, and the exit code that it ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.console import Console

from sappers.cli.exit_codes import ExitCode
from sappers.cli.output import Output

if TYPE_CHECKING:
    from sappers.cli.playbook_events import EventLines
    from sappers.cli.playbook_view import TaskLines
    from sappers.provisioner.playbook.journal.secret_texts import SecretTexts
    from sappers.provisioner.playbook.run.engine import RunReport


def events_or_lines(
    output: Output, verbosity: int, secrets: SecretTexts, *, adhoc: bool = False
) -> TaskLines | EventLines:
    """What shows a run, as `--output` says; covers secrets."""
    from sappers.cli.playbook_events import EventLines
    from sappers.cli.playbook_view import TaskLines

    if output is Output.JSON:
        return EventLines(typer.echo, secrets)
    return TaskLines(Console(), verbosity=verbosity, secrets=secrets, adhoc=adhoc)


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
