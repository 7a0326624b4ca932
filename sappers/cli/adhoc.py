"""`sappers-deploy adhoc`: one module on the hosts that a pattern names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    SkipOffline,
    User,
    VaultId,
    VaultPasswordFile,
)
from sappers.cli.playbook import events_or_lines, extra_variables, finish
from sappers.cli.session import Output

if TYPE_CHECKING:
    from sappers.provisioner.playbook.model import Play


def adhoc(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="Hosts: names, groups, patterns.")
    ],
    inventory: Sources,
    *,
    module: Annotated[str, typer.Option("--module", "-m", help="The module.")] = "command",
    arguments: Annotated[str, typer.Option("--args", "-a", help="Its arguments.")] = "",
    limit: Limit = None,
    user: User = None,
    private_key: PrivateKey = None,
    connection: ConnectionKind = None,
    become: Become = False,
    become_user: BecomeUser = None,
    become_method: BecomeMethod = None,
    ask_become_pass: AskBecomePass = False,
    ask_pass: AskPass = False,
    vault_password_file: VaultPasswordFile = None,
    vault_id: VaultId = None,
    ask_vault_pass: AskVaultPass = False,
    extra_vars: ExtraVars = None,
    check: Check = False,
    diff: Diff = False,
    forks: Forks = 20,
    skip_offline: SkipOffline = False,
    output: EventOutput = Output.TEXT,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Say all of each result.")
    ] = 0,
) -> None:
    """Run one module, as a playbook of one task would; shows all of the result."""
    from sappers.provisioner.connection.ssh_import import import_ssh

    import_ssh()
    from sappers.cli import playbook_secrets
    from sappers.provisioner.inventory.inventory import load_inventory
    from sappers.provisioner.playbook.engine import Engine
    from sappers.provisioner.playbook.ledger import Ledger
    from sappers.provisioner.playbook.options import RunOptions
    from sappers.provisioner.playbook.secret_texts import SecretTexts

    secrets = SecretTexts()
    decrypt = playbook_secrets.vault_opener(
        vault_password_file or [], secrets, ids=vault_id or [], ask=ask_vault_pass
    )
    options = RunOptions(
        check=check,
        diff=diff,
        extra=extra_variables(extra_vars or [], decrypt),
        limit=limit,
        forks=forks,
        verbosity=1 + verbose,
        skip_offline=skip_offline,
        user=user,
        private_key_file=private_key,
        connection=connection,
        become=become,
        become_user=become_user,
        become_method=become_method,
    )
    plays = _plays(pattern, module, arguments)
    hosts = load_inventory(inventory, decrypt, options.extra)
    playbook_secrets.add_passwords(hosts, secrets)
    ask = playbook_secrets.ask_secret
    lines = events_or_lines(output, 1 + verbose, secrets, facts=True)
    engine = Engine(
        hosts,
        options,
        lines,
        decrypt=decrypt,
        password=ask("SSH password", secrets) if ask_pass else None,
        become_password=ask("become password", secrets) if ask_become_pass else None,
        ledger=Ledger(secrets=secrets),
    )
    engine.check(plays)
    finish(lines, engine.run(plays))


def _plays(pattern: str, module: str, arguments: str) -> list[Play]:
    """A playbook of one task.

    Raises:
        PlaybookError: There is no such module, or it takes other arguments.
    """
    from sappers.provisioner.playbook.load import load_plays
    from sappers.provisioner.source import Items, Mapping, Place, Text

    place = Place("(adhoc)")
    play, task, tasks, plays = Mapping(place), Mapping(place), Items(place), Items(place)
    task[module] = Text(arguments, place) if arguments else None
    play.update({"hosts": pattern, "gather_facts": False, "tasks": tasks, "name": "adhoc"})
    for items, one in ((tasks, task), (plays, play)):
        items.append(one)
        items.places.append(place)
    return list(load_plays(plays, Path.cwd()))
