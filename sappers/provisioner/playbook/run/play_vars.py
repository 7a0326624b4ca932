"""What a play says of variables before its tasks run: `vars`, `vars_files`, what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from sappers.provisioner.inventory.inventory import Host
from sappers.provisioner.playbook.language.model import Inherited, Play
from sappers.provisioner.playbook.run.run import Run
from sappers.provisioner.playbook.run.scopes import inventory_layer
from sappers.provisioner.playbook.run.vars_files import VarsFiles
from sappers.provisioner.playbook.tasks import magic
from sappers.provisioner.playbook.tasks.variables import (
    HostFacts,
    PlayVariables,
    Scope,
    make_scope,
    play_variables,
)


def variables_of(run: Run, play: Play, prompted: Mapping[str, Any]) -> PlayVariables:
    """The layers that all tasks of a play share.

    Raises:
        PlaybookError: A file of `vars_files` is not there, or wrong.
    """
    files = VarsFiles(play, run.files)
    of_all = files.of_all(scope_of(run, play))
    variables = play_variables(play, run.extra, of_all or {}, prompted)
    return replace(variables, files_of_host=files.of_host) if of_all is None else variables


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
    known = magic.inventory_magic(run.inventory, host)
    facts, said = run.states[host.name].facts, inventory_layer(host)
    shared = variables_of(run, play, {})
    variables = shared.on_host(run.templates, _around(play), facts, said, known)
    return make_scope(run.templates, variables, _around(play), facts, said, known)


def _around(play: Play) -> Inherited:
    return Inherited(folders=(play.folder,))
