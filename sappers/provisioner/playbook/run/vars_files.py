"""The variables of a play's `vars_files`, the same for all hosts or each host's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sappers.provisioner.playbook.language.files import PlaybookFiles
from sappers.provisioner.playbook.language.model import Play
from sappers.provisioner.playbook.tasks.variables import Scope
from sappers.provisioner.playbook.templates.values import UndefinedVariable
from sappers.provisioner.source import place_of


class VarsFiles:
    """Reads them; of a list in the list the first that is there. Each file is read once."""

    def __init__(self, play: Play, files: PlaybookFiles) -> None:
        self._play = play
        self._files = files
        self._read: dict[Path, Mapping[str, Any]] = {}

    def of_all(self, scope: Scope) -> Mapping[str, Any] | None:
        """The variables, by what is known before any host is; None where names ask for more.

        Raises:
            PlaybookError: There is no such file, or it is wrong.
        """
        try:
            return self._variables(scope, skips=False)
        except UndefinedVariable:
            return None

    def of_host(self, scope: Scope) -> Mapping[str, Any]:
        """A host's; what asks for facts before they are gathered is left out, as in Ansible.

        Raises:
            PlaybookError: There is no such file, it is wrong, or its name asks for what is not
                there although the host told its facts.
        """
        return self._variables(scope, skips=not scope.find("ansible_facts"))

    def _variables(self, scope: Scope, *, skips: bool) -> Mapping[str, Any]:
        values: dict[str, Any] = {}
        for entry in self._play.vars_files:
            try:
                path = self._found(entry, scope)
            except UndefinedVariable:
                if not skips:
                    raise
                continue
            if path not in self._read:
                self._read[path] = self._files.read_variables(path)
            values.update(self._read[path])
        return values

    def _found(self, entry: Any, scope: Scope) -> Path:
        """The first of the files of an entry; a name is asked for when those before are not there.

        Raises:
            PlaybookError: There is none.
        """
        names: list[str] = []
        for one in entry if isinstance(entry, list) else [entry]:
            rendered = scope.templates.render(one, scope, self._play.place)
            for name in rendered if isinstance(rendered, list) else [rendered]:
                names.append(str(name))
                folder = self._play.folder
                for path in (folder / names[-1], folder / "vars" / names[-1]):
                    if path.is_file():
                        return path
        raise place_of(entry, self._play.place).error(
            f"vars_files: there is no {' or '.join(names)}"
        )
