"""Finds the templates that a template includes, imports or extends: files of this machine alone.

A name may be computed, also of what a host has said. So a name leads to no folder above those that
are searched, and one that is not written out in a template is looked for only where templates are
kept: what else lies beside a playbook is nothing that a host may choose to be told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import jinja2
import jinja2.meta

from sappers.provisioner.playbook.templates.search_path import search_path
from sappers.provisioner.source import Place

KEPT_IN = "templates"
_REFERS = re.compile(r"\b(?:include|import|from|extends)\b")


class TemplateFiles(jinja2.BaseLoader):
    """What templates of one folder find by name, in Ansible's order.

    Args:
        own: The folder of the template that is rendered.
        around: Those where its task looks for files, with a folder `templates` in each.
    """

    def __init__(self, own: Path, around: Sequence[Path]) -> None:
        kept = [folder / KEPT_IN for folder in around]
        self._kept = [*kept, own] if own.name == KEPT_IN else kept
        self._all = [*search_path(KEPT_IN, around), own]
        self._written: set[str] = set()

    def note(self, environment: jinja2.Environment, source: str) -> None:
        """Take down which names a template has written out."""
        if _REFERS.search(source):
            found = jinja2.meta.find_referenced_templates(environment.parse(source))
            self._written.update(name for name in found if name)

    def get_source(
        self, environment: jinja2.Environment, template: str
    ) -> tuple[str, str, Callable[[], bool]]:
        """A template's text and path, as Jinja asks for them. Raises TemplateNotFound."""
        folders = self._all if template in self._written else self._kept
        looked = jinja2.FileSystemLoader([str(one) for one in dict.fromkeys(folders)])
        try:
            source, path, is_fresh = looked.get_source(environment, template)
        except UnicodeDecodeError as error:
            raise Place(template).error("it is no text") from error
        except jinja2.TemplateNotFound as error:
            where = ", ".join(looked.searchpath)
            raise jinja2.TemplateNotFound(
                template, f"there is no template {template}; looked for in {where}"
            ) from error
        self.note(environment, source)
        return source, path, is_fresh
