"""`sappers-deploy bootstrap`: from the hosts of an inventory to a running cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from sappers.cli.display import (
    error_as_data,
    open_display,
    recap_as_data,
    show_problems,
    show_recap,
)
from sappers.cli.exit_codes import ExitCode, exit_code_for
from sappers.cli.host_options import Check, Forks, Limit
from sappers.cli.output import Form, Output
from sappers.cli.session import open_cluster
from sappers.cli.status_view import render_status
from sappers.config import control_home
from sappers.errors import SappersError
from sappers.model.view import ClusterView
from sappers.provisioner.bootstrap.recap import CLUSTER_PHASE, Outcome, Recap

CHECK_NOTE = "check mode: nothing was changed"


def bootstrap(
    inventory: Annotated[
        Path, typer.Argument(metavar="INVENTORY", help="Ansible's inventory: INI or YAML.")
    ],
    *,
    limit: Limit = None,
    check: Check = False,
    forks: Forks = 20,
    playbook: Annotated[
        Path | None,
        typer.Option(help="What is done to hosts, if not playbooks/bootstrap.yml of the checkout."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say what changes, file by file.")
    ] = False,
    output: Form = Output.TEXT,
) -> None:
    """Make the inventory's hosts a cluster. Run it again at any time: it does what is missing."""
    try:
        recap, view = run_bootstrap(
            inventory,
            limit,
            playbook,
            check=check,
            forks=forks,
            verbose=verbose,
            form=output,
        )
    except SappersError as error:
        if output is Output.JSON:
            _print_json({"problems": [error_as_data(error)], "exit_code": exit_code_for(error)})
            raise typer.Exit(exit_code_for(error)) from error
        raise
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; run it again, and it goes on where it stopped")
        raise
    code = exit_code_of(recap)
    if output is Output.JSON:
        status = msgspec.to_builtins(view) if view else None
        _print_json(recap_as_data(recap) | {"check": check, "status": status, "exit_code": code})
    else:
        show_bootstrap(recap, view, check=check, told=verbose)
    raise typer.Exit(code)


def exit_code_of(recap: Recap) -> ExitCode:
    """The exit code that a run ends with.

    A host that failed explains a cluster that could not form without it. A cluster without a
    leader although every host is well is worse than both, and says so.
    """
    before = {
        result.outcome
        for results in recap.hosts.values()
        for result in results
        if result.title != CLUSTER_PHASE
    }
    if Outcome.FAILED in before:
        return ExitCode.HOST_FAILED
    if Outcome.UNREACHABLE in before:
        return ExitCode.UNREACHABLE
    if recap.cluster_error is not None:
        return exit_code_for(recap.cluster_error)
    return ExitCode.HOST_FAILED if recap.problems else ExitCode.OK


def run_bootstrap(
    inventory_path: Path,
    limit: str | None,
    playbook: Path | None = None,
    *,
    check: bool,
    forks: int,
    verbose: bool,
    form: Output,
) -> tuple[Recap, ClusterView | None]:
    """One run over the hosts, shown as it goes; how it ended, and the cluster if it answers."""
    # Imported late: SSH and templates take a moment to load, and other commands do without.
    from sappers.assembly.deploy import deploy_wiring
    from sappers.provisioner.bootstrap.bootstrap import Bootstrap, Options
    from sappers.provisioner.bootstrap.plan import plan_cluster
    from sappers.provisioner.bootstrap.playbook import load_plays, titles
    from sappers.provisioner.bootstrap.resolve import resolve_address
    from sappers.provisioner.connection.ssh_config import host_name, read_ssh_config
    from sappers.provisioner.inventory.inventory import load_inventory
    from sappers.provisioner.places import BOOTSTRAP_PLAYBOOK

    home = control_home(os.environ)
    inventory = load_inventory(inventory_path)
    hosts = inventory.select(limit)
    user = Path.home()
    ssh = read_ssh_config(user)
    plan = plan_cluster(inventory, resolve_address, lambda name: host_name(name, ssh, user))
    plays = load_plays(playbook or BOOTSTRAP_PLAYBOOK)
    console = Console(stderr=form is Output.JSON)
    with deploy_wiring(home, plan) as needs:
        run = Bootstrap(home, inventory, plan, needs, plays)
        names = [host.name for host in hosts]
        with open_display(console, names, titles(plan, plays), verbose=verbose) as display:
            recap = run.run(hosts, Options(forks=forks, check=check), display)
    view = None if check else _view(plan.name)
    return recap, view


def _view(cluster: str) -> ClusterView | None:
    """The cluster at a glance, if any member answers."""
    try:
        with open_cluster(cluster, None) as client:
            return client.view()
    except SappersError:
        return None


def show_bootstrap(recap: Recap, view: ClusterView | None, *, check: bool, told: bool) -> None:
    """The cluster, what went wrong, the recap; `told`: the display named every change."""
    console = Console()
    if view is not None:
        console.print()
        console.print(render_status(view), highlight=False)
    if check and not told:
        for name, results in recap.hosts.items():
            for result in results:
                for change in result.changes:
                    line = f"{name} : would change: {change}"
                    console.print(line, highlight=False, soft_wrap=True)
    console.print()
    show_problems(console, recap.problems)
    show_recap(console, recap)
    if check:
        console.print(CHECK_NOTE)


def _print_json(data: dict[str, Any]) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(data), indent=2).decode())
