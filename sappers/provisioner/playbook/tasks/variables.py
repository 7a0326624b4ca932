"""Which value a variable has for a task on a host: Ansible's precedence, highest layer first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import immutables
import msgspec
from msgspec.structs import replace

from sappers.provisioner.inventory.reach import BECOME_NAMES, NAMES
from sappers.provisioner.playbook.language.model import Inherited, Play, Role, Vars
from sappers.provisioner.playbook.templates.templates import Templates
from sappers.provisioner.playbook.templates.values import MISSING, NotYetKnown
from sappers.provisioner.source import Data, Items, Place, Text
from sappers.provisioner.source import Mapping as SourceMapping

NO_PLACE = Place("(variables)")
_FACT = "ansible_"
# The fact that keeps its prefix in `ansible_facts`, as in Ansible.
_NAMED_WHOLE = {"local": "ansible_local"}
# No host tells these (`judge.own_facts`): who asks for them need not wait for its facts.
_NO_FACTS = NAMES | BECOME_NAMES
Layer = Mapping[str, Any]


class Pending:
    """Stands for what a task under way will tell."""


PENDING = Pending()
_EMPTY: immutables.Map[str, Any] = immutables.Map()


class HostFacts(msgspec.Struct, frozen=True):
    """What a run has learned of one host. Immutable: a task that is only prepared changes a copy.

    Attributes:
        facts: Without the prefix `ansible_`.
        told: What `register` and `set_fact` have set.
        included: What `include_vars` has.
        plain: Facts that are variables by their own names.
        facts_pending: A task that gathers facts is under way.
        plain_pending: Patterns of such names, of a task that is under way.
    """

    facts: immutables.Map[str, Any] = _EMPTY
    told: immutables.Map[str, Any] = _EMPTY
    included: immutables.Map[str, Any] = _EMPTY
    plain: immutables.Map[str, Any] = _EMPTY
    facts_pending: bool = False
    plain_pending: tuple[str, ...] = ()

    def tell(self, values: Mapping[str, Any]) -> HostFacts:
        """With variables set, as `set_fact` and `register` do."""
        return replace(self, told=self.told.update(values))

    def gathered(self, facts: Mapping[str, Any], plain: Sequence[str] = ()) -> HostFacts:
        """With facts; names may have the prefix. Those that fit `plain` are variables as well."""
        named = {name.removeprefix(_FACT): value for name, value in facts.items()}
        own = {name: value for name, value in facts.items() if _fits(name, plain)}
        return replace(
            self,
            facts=self.facts.update(named),
            plain=self.plain.update(own),
            facts_pending=False,
            plain_pending=(),
        )

    def gathering(self, plain: Sequence[str]) -> HostFacts:
        """With a task under way that tells facts."""
        return replace(self, facts_pending=True, plain_pending=(*self.plain_pending, *plain))

    def find_fact(self, name: str) -> Any:
        """A fact as a variable."""
        if name == "ansible_facts":
            if self.facts_pending:
                raise NotYetKnown(name)
            return {_NAMED_WHOLE.get(name, name): value for name, value in self.facts.items()}
        if not name.startswith(_FACT):
            if _fits(name, self.plain_pending):
                raise NotYetKnown(name)
            return self.plain.get(name, MISSING)
        if self.facts_pending and name not in _NO_FACTS:
            raise NotYetKnown(name)
        return self.facts.get(name[len(_FACT) :], MISSING)


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, one) for one in patterns)


def as_source(value: Any, place: Place) -> Any:
    """A value that a person wrote elsewhere (inventory, `-e`): its texts may be templates."""
    if isinstance(value, Text | Data | SourceMapping | Items):
        return value
    if isinstance(value, str):
        return Text(value, place)
    if isinstance(value, dict):
        return {key: as_source(one, place) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_source(one, place) for one in value]
    return value


# Of the usual values those that keywords say.
_OF_KEYWORDS = frozenset({"ansible_connection", "ansible_user"})


class Scope:
    """The variables of one task on one host. Rendered when asked for, and only once.

    Args:
        above: Layers over the facts, highest first: loop, magic, extra, …
        below: Layers under them: the inventory's first, then defaults of roles.
        folders: Where lookups find files.
        elsewhere: The scope of the same task as another host has it.
        usual: How a host is reached where nobody says otherwise; under all else.
    """

    def __init__(
        self,
        templates: Templates,
        above: Sequence[Layer],
        facts: HostFacts,
        below: Sequence[Layer],
        folders: tuple[Path, ...] = (),
        elsewhere: Callable[[str], Scope] | None = None,
        usual: Layer = _EMPTY,
    ) -> None:
        self.folders = folders
        self._elsewhere = elsewhere
        self.templates = templates
        self._above = above
        self._facts = facts
        self._below = below
        self._usual = usual
        self._known: dict[str, Any] = {}
        self._asked: list[str] = []

    def find(self, name: str) -> Any:
        """A variable's value, or `MISSING`.

        Raises:
            NotYetKnown: A task under way will tell it.
            PlaybookError: Its template is wrong, or refers to itself.
        """
        if name in self._known:
            return self._known[name]
        raw, scope = self._raw(name), self
        if raw is MISSING:
            if (raw := self._usual.get(name, MISSING)) is MISSING:
                return MISSING
            scope = self.for_keywords() if name in _OF_KEYWORDS else self
        if raw is PENDING:
            raise NotYetKnown(name)
        if callable(raw):
            value = raw()
        elif name in self._asked:
            chain = " → ".join([*self._asked, name])
            raise _place(raw).error(f"the variable {name} refers to itself: {chain}")
        else:
            self._asked.append(name)
            try:
                value = self.templates.render(raw, scope, NO_PLACE)
            finally:
                self._asked.pop()
        self._known[name] = value
        return value

    def said(self, name: str) -> Any:
        """As `find`, but `MISSING` also where a value is only the usual one."""
        return MISSING if self._raw(name) is MISSING else self.find(name)

    def for_keywords(self) -> Scope:
        """As `connection` and `remote_user` have it: what they say, nobody has said yet."""
        usual = {name: raw for name, raw in self._usual.items() if name not in _OF_KEYWORDS}
        return Scope(
            self.templates, self._above, self._facts, self._below, self.folders, self._elsewhere,
            usual,
        )  # fmt: skip

    def _raw(self, name: str) -> Any:
        for layer in self._above:
            if name in layer:
                return layer[name]
        fact = self._facts.find_fact(name)
        if fact is not MISSING:
            return fact
        for layer in self._below:
            if name in layer:
                return layer[name]
        return MISSING

    def under(self, layer: Layer) -> Scope:
        """With one more layer on top of all."""
        above, elsewhere = [layer, *self._above], self._elsewhere
        there = None if elsewhere is None else lambda host: elsewhere(host).under(layer)
        return Scope(
            self.templates, above, self._facts, self._below, self.folders, there, self._usual
        )

    def on(self, host: str) -> Scope:
        """The same task's, as another host has it: with what that host's variables say."""
        return self if self._elsewhere is None else self._elsewhere(host)

    def adds_to_inventory(self, names: frozenset[str]) -> bool:
        """Whether anything but the inventory says one of these; facts never do."""
        layers = (*self._above, *self._below[1:])
        return not all(names.isdisjoint(layer) for layer in layers)

    def names(self) -> list[str]:
        """All names, sorted."""
        found = {name for layer in (*self._above, *self._below) for name in layer}
        return sorted(found | {_FACT + name for name in self._facts.facts})


def _place(raw: Any) -> Place:
    return raw.place if isinstance(raw, Text | SourceMapping | Items) else NO_PLACE


class ScopeView(Mapping[str, Any]):
    """A scope as a mapping: `vars`, and each entry of `hostvars`."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __getitem__(self, name: str) -> Any:
        found = self._scope.find(name)
        if found is MISSING:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._scope.names())

    def __len__(self) -> int:
        return len(self._scope.names())


class PlayVariables(msgspec.Struct, frozen=True):
    """The layers that all tasks of a play share.

    Attributes:
        extra: `-e`; over all.
        files: `vars_files`, as one.
        files_of_host: Makes them of what a host knows, where they are each host's own.
        prompted: `vars_prompt`.
    """

    extra: Layer = msgspec.field(default_factory=dict)
    files: Layer = msgspec.field(default_factory=dict)
    prompted: Layer = msgspec.field(default_factory=dict)
    play: Layer = msgspec.field(default_factory=dict)
    role_vars: Layer = msgspec.field(default_factory=dict)
    role_defaults: Layer = msgspec.field(default_factory=dict)
    files_of_host: Callable[[Scope], Layer] | None = None

    def on_host(
        self,
        templates: Templates,
        inherited: Inherited,
        facts: HostFacts,
        inventory: Layer,
        magic: Layer,
    ) -> PlayVariables:
        """With the `vars_files` of one host."""
        if self.files_of_host is None:
            return self
        scope = make_scope(templates, self, inherited, facts, inventory, magic)
        return replace(self, files=self.files_of_host(scope), files_of_host=None)

    def with_roles(self, roles: Sequence[Role]) -> PlayVariables:
        """With the vars and defaults of roles known to all tasks; a later one's count."""
        role_vars, role_defaults = dict(self.role_vars), dict(self.role_defaults)
        for role in roles:
            role_vars.update(role.vars)
            role_defaults.update(role.defaults)
        return replace(self, role_vars=role_vars, role_defaults=role_defaults)


def play_variables(play: Play, extra: Layer, files: Layer, prompted: Layer) -> PlayVariables:
    """The shared layers of a play and of its roles."""
    outer: dict[str, Any] = {}
    for layer in play.inherited.vars:
        outer.update(layer)
    own = PlayVariables(extra, files, prompted, {**outer, **play.vars})
    return own.with_roles(play.roles)


def make_scope(
    templates: Templates,
    shared: PlayVariables,
    inherited: Inherited,
    facts: HostFacts,
    inventory: Layer,
    magic: Layer,
    elsewhere: Callable[[str], Scope] | None = None,
    usual: Layer = _EMPTY,
) -> Scope:
    """The scope of a task (or of a play, with what the play hands down) on one host."""
    inner: list[Vars] = list(reversed(inherited.vars))
    roles = list(reversed(inherited.roles))
    above = [
        magic,
        shared.extra,
        *reversed(inherited.params),
        *(role.params for role in roles if role.params),
        facts.told,
        facts.included,
        *inner,
        *(layer for role in roles[:1] for layer in (role.given, role.vars)),
        *(layer for role in roles[1:] for layer in (role.vars, role.given)),
        shared.role_vars,
        shared.files,
        shared.prompted,
        shared.play,
    ]
    below = [inventory, *(role.defaults for role in roles if role.defaults), shared.role_defaults]
    above = [layer for layer in above if layer]
    return Scope(templates, above, facts, below, inherited.folders, elsewhere, usual)
