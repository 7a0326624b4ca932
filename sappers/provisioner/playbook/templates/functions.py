"""The functions that templates may call, and the environment with all that playbooks know."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import jinja2

from sappers.provisioner.playbook.templates.environments import SCOPE
from sappers.provisioner.playbook.templates.filters import FILTERS
from sappers.provisioner.playbook.templates.lookup_values import Lookup
from sappers.provisioner.playbook.templates.lookups import LOOKUPS, OF_BOOTSTRAP, Lookups
from sappers.provisioner.playbook.templates.origin import MANAGED
from sappers.provisioner.playbook.templates.templates import Templates
from sappers.provisioner.playbook.templates.tests import TESTS
from sappers.provisioner.playbook.templates.values import Undefined
from sappers.provisioner.source import Decrypt


def _now(utc: bool = False, fmt: str | None = None) -> Any:
    moment = datetime.datetime.now(datetime.UTC if utc else None)
    return moment.strftime(fmt) if fmt else moment


def _undef(hint: str | None = None) -> Undefined:
    """What is not defined, for variables that whoever uses a role has to set."""
    return Undefined(hint=hint)


def make_templates(
    lookups: Mapping[str, Lookup] | None = None,
    decrypt: Decrypt | None = None,
    managed: str = MANAGED,
) -> Templates:
    """An environment as playbooks expect it, with lookups beside those that Ansible has.

    Args:
        managed: What `ansible_managed` says where nobody has set it.
    """

    @jinja2.pass_context
    def lookup(context: jinja2.runtime.Context, name: str, *terms: Any, **options: Any) -> Any:
        return Lookups(context.parent[SCOPE], lookups, decrypt).lookup(name, *terms, **options)

    @jinja2.pass_context
    def query(context: jinja2.runtime.Context, name: str, *terms: Any, **options: Any) -> Any:
        return Lookups(context.parent[SCOPE], lookups, decrypt).query(name, *terms, **options)

    names = [(name, f) for name, f in FILTERS.items()]
    filters = dict(names) | {f"ansible.builtin.{name}": f for name, f in names}
    tests = TESTS | {f"ansible.builtin.{name}": test for name, test in TESTS.items()}
    functions = {"lookup": lookup, "query": query, "q": query, "now": _now, "undef": _undef}
    named = {*LOOKUPS, *OF_BOOTSTRAP, *(lookups or {})}
    return Templates(filters, tests, functions, named, managed)
