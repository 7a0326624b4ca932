"""`playbook run` with bootstrap's own playbook, which needs what only `bootstrap` can give it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from sappers.cli.play_options import PlayOptions
from sappers.errors import ConfigError
from sappers.provisioner.places import BOOTSTRAP_PLAYBOOK

_SHARED_OPTIONS = frozenset(
    {"playbooks", "inventory", "limit", "check", "forks", "verbose", "output"}
)


def is_bootstrap(playbooks: Sequence[Path]) -> bool:
    """Whether it is the playbook that `bootstrap` runs.

    Raises:
        ConfigError: It is, among others.
    """
    found = [path for path in playbooks if path.exists() and path.samefile(BOOTSTRAP_PLAYBOOK)]
    if found and len(playbooks) > 1:
        raise ConfigError(f"{found[0]} is run alone", hint="run the others by a command of theirs")
    return bool(found)


def run_bootstrap(context: typer.Context, given: PlayOptions, verbosity: int) -> None:
    """What `bootstrap` does with these options.

    Raises:
        ConfigError: It has no such option.
    """
    from sappers.cli.bootstrap import bootstrap  # other playbooks do without

    _refuse_more_options(context)
    if len(given.inventory) != 1:
        raise ConfigError("bootstrap takes one inventory", hint="-i FILE, with all hosts in it")
    bootstrap(
        Path(given.inventory[0]),
        limit=given.limit,
        check=given.check,
        forks=given.forks,
        verbose=verbosity > 0,
        output=given.output,
    )


def _refuse_more_options(context: typer.Context) -> None:
    for option in context.command.params:
        name = option.name or ""
        source = context.get_parameter_source(name)
        given = source is not None and source.name == "COMMANDLINE"
        if given and name not in _SHARED_OPTIONS:
            raise ConfigError(
                f"{max(option.opts, key=len)} does not go with {BOOTSTRAP_PLAYBOOK.name}",
                hint="`sappers-deploy bootstrap --help` shows what does; what is done to hosts can "
                "be changed in the playbook, or in a copy that `bootstrap --playbook` names",
            )
