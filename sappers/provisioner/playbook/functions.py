"""The functions that templates may call, and the environment with all that playbooks know."""

from __future__ import annotations

import datetime
from typing import Any

import jinja2

from sappers.provisioner.playbook.filters import FILTERS
from sappers.provisioner.playbook.lookups import Lookups
from sappers.provisioner.playbook.templating import SCOPE, Templates
from sappers.provisioner.playbook.tests import TESTS


@jinja2.pass_context
def _lookup(context: jinja2.runtime.Context, name: str, *terms: Any, **options: Any) -> Any:
    return Lookups(context.parent[SCOPE]).lookup(name, *terms, **options)


@jinja2.pass_context
def _query(context: jinja2.runtime.Context, name: str, *terms: Any, **options: Any) -> Any:
    return Lookups(context.parent[SCOPE]).query(name, *terms, **options)


def _now(utc: bool = False, fmt: str | None = None) -> Any:
    moment = datetime.datetime.now(datetime.UTC if utc else None)
    return moment.strftime(fmt) if fmt else moment


def make_templates() -> Templates:
    """An environment as playbooks expect it."""
    names = [(name, f) for name, f in FILTERS.items()]
    filters = dict(names) | {f"ansible.builtin.{name}": f for name, f in names}
    tests = TESTS | {f"ansible.builtin.{name}": test for name, test in TESTS.items()}
    functions = {"lookup": _lookup, "query": _query, "q": _query, "now": _now}
    return Templates(filters, tests, functions)
