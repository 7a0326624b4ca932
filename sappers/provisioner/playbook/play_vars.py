"""What a play says of variables before its tasks run: `vars`, `vars_files`, what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sappers.provisioner.inventory.inventory import Host
from sappers.provisioner.playbook import magic
from sappers.provisioner.playbook.model import Inherited, Play
from sappers.provisioner.playbook.run import Run
from sappers.provisioner.playbook.scopes import inventory_layer
from sappers.provisioner.playbook.variables import (
    HostFacts,
    PlayVariables,
    Scope,
    make_scope,
    play_variables,
)
from sappers.provisioner.source import place_of


def variables_of(run: Run, play: Play, prompted: Mapping[str, Any]) -> PlayVariables:
    """The layers that all tasks of a play share.

    Raises:
        PlaybookError: A file of `vars_files` is not there, or wrong.
    """
    return play_variables(play, run.extra, read_vars_files(run, play), prompted)


def scope_of(run: Run, play: Play) -> Scope:
    """What is known before any host is: `-e` and the play's own variables."""
    return _before_hosts(run, play, play_variables(play, run.extra, {}, {}))


def scope_asking(run: Run, play: Play) -> Scope:
    """What is known when `vars_prompt` asks: as `scope_of`, and `vars_files`."""
    return _before_hosts(run, play, variables_of(run, play, {}))


def _before_hosts(run: Run, play: Play, variables: PlayVariables) -> Scope:
    known = {"playbook_dir": str(play.folder.absolute())}
    return make_scope(run.templates, variables, _around(play), HostFacts(), {}, known)


def scope_on(run: Run, play: Play, host: Host) -> Scope:
    """What is known on a host before the play begins."""
    variables = variables_of(run, play, {})
    known = magic.inventory_magic(run.inventory, host)
    facts, said = run.states[host.name].facts, inventory_layer(host)
    return make_scope(run.templates, variables, _around(play), facts, said, known)


def _around(play: Play) -> Inherited:
    return Inherited(folders=(play.folder,))


def read_vars_files(run: Run, play: Play) -> dict[str, Any]:
    """The variables of all `vars_files`; of a list in the list the first that is there.

    Raises:
        PlaybookError: There is none such, or it is wrong.
    """
    values: dict[str, Any] = {}
    scope = scope_of(run, play)
    for entry in play.vars_files:
        names = run.templates.render(entry, scope, play.place)
        alternatives = names if isinstance(names, list) else [names]
        found = (_found(play.folder, str(name)) for name in alternatives)
        path = next((one for one in found if one), None)
        if path is None:
            listed = " or ".join(map(str, alternatives))
            raise place_of(entry, play.place).error(f"vars_files: there is no {listed}")
        values.update(run.files.read_variables(path))
    return values


def _found(folder: Path, name: str) -> Path | None:
    return next((one for one in (folder / name, folder / "vars" / name) if one.is_file()), None)
