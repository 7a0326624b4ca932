"""How Jinja is set up for playbooks: where it finds names, and what becomes of what it finds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jinja2
from jinja2.nativetypes import NativeCodeGenerator
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

from sappers.provisioner.playbook.templates.embedded import TermsRendered, TextsRendered
from sappers.provisioner.playbook.templates.lookup_calls import KnownLookups
from sappers.provisioner.playbook.templates.template_places import TokensPlaced
from sappers.provisioner.playbook.templates.values import (
    MISSING,
    OMIT,
    Undefined,
    UndefinedVariable,
    is_no_value,
    plain,
    together,
)

SCOPE = " scope"  # no name that a template could write
_SETTINGS: Mapping[str, Any] = {
    "undefined": Undefined,
    "trim_blocks": True,
    "extensions": ["jinja2.ext.do", "jinja2.ext.loopcontrols"],
}
# All else fails on what is undefined, as in Ansible, also where Python would find an answer.
_ASKED_OF_UNDEFINED = {"default", "d", "defined", "mandatory", "ternary", "type_debug", "undefined"}
# Jinja's own filters that yield one by one; in playbooks they are lists, so `| length` can count.
_LAZY_FILTERS = ("batch", "items", "map", "reject", "rejectattr", "select", "selectattr", "slice")


class ScopeContext(Context):
    """Finds variables in the scope that a template is rendered for."""

    def resolve_or_missing(self, key: str) -> Any:
        """As Jinja asks for a name."""
        if SCOPE in self.parent and not self._is_set(key):
            try:
                found = self.parent[SCOPE].find(key)
            except UndefinedVariable as error:
                # As in Ansible: what is made of something undefined is so, too, and has a default.
                return Undefined(hint=str(error))
            if found is not MISSING:
                return found
        return super().resolve_or_missing(key)

    def _is_set(self, key: str) -> bool:
        """Whether the template has set it, or the one that includes it."""
        given = self.parent.get(key, MISSING)
        of_all = self.environment.globals.get(key, MISSING)
        return key in self.vars or given is not of_all


@jinja2.pass_context
def _finalize(_: Context, value: Any) -> Any:
    """As it is; that it takes a context keeps constants from becoming text when compiled."""
    return value


@jinja2.pass_context
def _finalize_text(_: Context, value: Any) -> Any:
    return "" if value is None or is_no_value(value) else plain(value)


class ValueEnvironment(TokensPlaced, TermsRendered, KnownLookups, SandboxedEnvironment):
    """For values: one expression yields its own, of any type."""

    context_class = ScopeContext
    code_generator_class = NativeCodeGenerator
    concat = staticmethod(together)  # of macros and of blocks that set

    def __init__(self) -> None:
        super().__init__(finalize=_finalize, **_SETTINGS)


class ConditionEnvironment(TextsRendered, ValueEnvironment):
    """For conditions."""


class FileEnvironment(TokensPlaced, TermsRendered, KnownLookups, SandboxedEnvironment):
    """For files all is text, made in the template's own frames: errors know their lines."""

    context_class = ScopeContext

    def __init__(self) -> None:
        super().__init__(finalize=_finalize_text, **_SETTINGS)


def equip(
    environment: KnownLookups,
    filters: Mapping[str, Any],
    tests: Mapping[str, Any],
    functions: Mapping[str, Any],
    lookups: Collection[str],
) -> None:
    """Give an environment what playbooks know beside what Jinja does."""
    for name in _LAZY_FILTERS:
        environment.filters[name] = _as_list(environment.filters[name])
    environment.filters.update(filters)
    environment.tests.update(tests)
    all_known: tuple[dict[str, Any], ...] = (environment.filters, environment.tests)
    for known in all_known:
        for name in known.keys() - _ASKED_OF_UNDEFINED:
            known[name] = _of_defined(known[name])
    environment.globals.update(functions)
    environment.globals["omit"] = OMIT
    environment.lookups = lookups


@functools.cache  # three environments have the same functions, most of them by two names
def _as_list(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)  # with what tells Jinja which arguments it wants
    def listed(*args: Any, **options: Any) -> Any:
        return list(function(*args, **options))

    return listed


@functools.cache
def _of_defined(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def called(*args: Any, **options: Any) -> Any:
        for one in (*args, *options.values()):
            if isinstance(one, Undefined):
                str(one)  # raises
        return function(*args, **options)

    return called
