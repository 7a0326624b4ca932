"""`sappers-deploy lab`: throw-away hosts on this machine."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from sappers.cli.output import Form, Output
from sappers.config import control_home
from sappers.lab.plan import DEFAULT_LAB, plan_lab

if TYPE_CHECKING:
    from sappers.lab.lab import Lab, LabStatus

lab_app = typer.Typer(
    name="lab",
    help="Throw-away hosts on this machine: containers with their own systemd and sshd.",
    no_args_is_help=True,
)

_COLOURS = {"up": "green", "booting": "yellow", "paused": "yellow", "off": "red"}


Name = Annotated[str, typer.Option("--name", help="Which lab; each has a subnet of its own.")]


@lab_app.command()
def up(
    hosts: Annotated[
        int | None, typer.Option("--hosts", min=1, help="At least so many; 3 in a new lab.")
    ] = None,
    name: Name = DEFAULT_LAB,
    output: Form = Output.TEXT,
) -> None:
    """Start the lab, or what is missing of it. Nothing to do when all hosts answer."""
    lab = _lab(name)
    status = lab.up(hosts)
    _show(status, output)
    if output is Output.TEXT:
        Console(stderr=True).print(
            f"inventory: {status.inventory}", highlight=False, soft_wrap=True
        )


@lab_app.command()
def down(name: Name = DEFAULT_LAB) -> None:
    """Remove the lab: its processes, mounts, bridge and files."""
    _lab(name).down()


@lab_app.command()
def status(name: Name = DEFAULT_LAB, output: Form = Output.TEXT) -> None:
    """Show the lab's hosts."""
    _show(_lab(name).status(), output)


@lab_app.command(context_settings={"ignore_unknown_options": True})
def ssh(
    host: Annotated[str, typer.Argument(metavar="NAME", help="The host, `lab1`.")],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND]", help="Instead of a shell.")
    ] = None,
    name: Name = DEFAULT_LAB,
    user: Annotated[
        str, typer.Option("--user", "-l", help="root, admin (may sudo) or plain (may not).")
    ] = "root",
) -> None:
    """Log in to a host, or run a command there."""
    # One word is a command line for the host's shell, as ssh takes it; several are one command.
    remote = (shlex.join(command) if len(command) > 1 else command[0],) if command else ()
    argv = _lab(name).ssh_command(host, remote, user=user)
    os.execvp(argv[0], argv)  # noqa: S606 - a list of arguments, no shell


def _lab(name: str) -> Lab:
    # Imported late: netlink takes a moment to load, and other commands do without.
    from sappers.lab.lab import Lab

    progress = Console(stderr=True)
    return Lab(
        name,
        control_home(os.environ),
        progress=lambda line: progress.print(line, highlight=False),
    )


def _show(lab: LabStatus, output: Output) -> None:
    if output is Output.JSON:
        typer.echo(msgspec.json.encode(lab).decode())
        return
    console = Console()
    if not lab.hosts:
        start = plan_lab(lab.name).command("up")
        console.print(f"no lab `{lab.name}`; start it with: {start}", highlight=False)
        return
    console.print(f"lab {lab.name} · {lab.subnet} on bridge {lab.bridge}", highlight=False)
    table = Table("HOST", "ADDRESS", "STATE", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.header_style = "dim"
    for host in lab.hosts:
        table.add_row(host.name, host.address, f"[{_COLOURS[host.state]}]{host.state}[/]")
    console.print(table)
