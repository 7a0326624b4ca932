"""Names of what is imported, which may be templates of what is known before any host is.

As in Ansible: of `-e`, of what is written of roles, the play, and the blocks and tasks within, and
of where files are. Facts, the inventory and what tasks tell are not known yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sappers.errors import PlaybookError
from sappers.provisioner.playbook.language.model import Inherited, Role
from sappers.provisioner.playbook.templates.functions import make_templates
from sappers.provisioner.playbook.templates.templates import Templates
from sappers.provisioner.playbook.templates.values import MISSING, UndefinedVariable
from sappers.provisioner.source import Place, is_template

Layer = Mapping[str, Any]
_NO_PLACE = Place("(variables)")


class _Known:
    """The variables of such a name; satisfies `Variables`."""

    def __init__(self, layers: Sequence[Layer], folders: Sequence[Path]) -> None:
        self.templates: Templates = make_templates()
        self.folders = tuple(folders)
        self._layers = layers
        self._asked: list[str] = []

    def find(self, name: str) -> Any:
        """A variable's value, or `MISSING`; one that refers to itself is none."""
        raw = next((layer[name] for layer in self._layers if name in layer), MISSING)
        if raw is MISSING or name in self._asked:
            return MISSING
        self._asked.append(name)
        try:
            return self.templates.render(raw, self, _NO_PLACE)
        finally:
            self._asked.pop()


def import_name(
    value: Any, place: Place, *, extra: Layer, inherited: Inherited, play: Layer,
    roles: Sequence[Role], instead: str,
) -> str:  # fmt: skip
    """The name that is written, or that a template yields.

    Args:
        extra: The variables of `-e`.
        play: Those of the play; `playbook_dir` among them.
        roles: Those that were loaded before.
        instead: What to write where it is not known yet.

    Raises:
        PlaybookError: The template is wrong, or asks for what is not known yet.
    """
    if not is_template(value):
        return str(value)
    within = list(reversed(inherited.roles))
    layers = [
        _of_role(inherited.role), extra, *reversed(inherited.params),
        *(role.params for role in within), *reversed(inherited.vars),
        *(layer for role in within for layer in (role.given, role.vars)),
        *(role.vars for role in reversed(roles)), play,
        *(role.defaults for role in within), *(role.defaults for role in reversed(roles)),
    ]  # fmt: skip
    known = _Known(layers, inherited.folders)
    try:
        return str(known.templates.render(value, known, place))
    except UndefinedVariable as error:
        raise PlaybookError(
            f"{error.problem}: the name is asked for before any host is, its facts or inventory",
            path=error.path, line=error.line, column=error.column, hint=instead,
        ) from error  # fmt: skip


def _of_role(role: Role | None) -> Layer:
    if role is None:
        return {}
    return {"role_name": role.short_name, "role_path": str(role.folder.absolute())}
