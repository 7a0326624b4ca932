"""Loads lists of tasks and blocks: keywords checked, modules and their arguments known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Protocol

from msgspec.structs import replace

from sappers.errors import PlaybookError
from sappers.provisioner.playbook import unsupported
from sappers.provisioner.playbook.language import catalog, keywords
from sappers.provisioner.playbook.language.load_arguments import load_arguments
from sappers.provisioner.playbook.language.load_inherited import as_tuple, inherit
from sappers.provisioner.playbook.language.model import Block, Inherited, LoopControl, Node, Task
from sappers.provisioner.playbook.templates.lookup_calls import short_name
from sappers.provisioner.playbook.templates.lookups import LOOKUPS
from sappers.provisioner.source import (
    Items,
    Mapping,
    Place,
    Text,
    is_template,
    place_of,
)

# Name the module in the older way.
_ACTIONS = ("action", "local_action")
# From here on a name is taken for a typing error of another; `ec2_group` is none of `group`.
_TYPO = 0.75


class Importer(Protocol):
    """Who loads what a task imports."""

    def import_tasks(self, task: Task) -> tuple[Node, ...]:
        """The tasks of the file that a task names; static."""

    def import_role(self, task: Task) -> tuple[Node, ...]:
        """The tasks of a role; static."""


def load_nodes(
    value: Any, place: Place, inherited: Inherited, importer: Importer, *, handlers: bool = False
) -> tuple[Node, ...]:
    """Tasks and blocks of a list.

    Raises:
        PlaybookError: Something is no task, unknown or wrong; at its place.
    """
    if value is None:
        return ()
    if not isinstance(value, Items):
        raise place_of(value, place).error("expected a list of tasks", hint="begin each with `-`")
    nodes: list[Node] = []
    for item, at in zip(value, value.places, strict=True):
        if not isinstance(item, Mapping):
            raise at.error("expected a task: a mapping with the name of a module")
        if "block" in item:
            nodes.append(_load_block(item, inherited, importer, handlers=handlers))
            continue
        task = _load_named(item, inherited, handler=handlers)
        if task.module == "import_tasks":
            nodes.extend(importer.import_tasks(task))
        elif task.module == "import_role":
            nodes.extend(importer.import_role(task))
        else:
            nodes.append(task)
    return tuple(nodes)


def _load_named(item: Mapping, inherited: Inherited, *, handler: bool) -> Task:
    """A task; what is wrong is said with its name."""
    try:
        return load_task(item, inherited, handler=handler)
    except PlaybookError as error:
        raise error.in_task(item.get("name"), item.place) from error


def _load_block(
    item: Mapping, inherited: Inherited, importer: Importer, *, handlers: bool
) -> Block:
    keywords.refuse_unknown(item, keywords.BLOCK, "block")
    called = (*inherited.notify, *as_tuple(item.get("notify")))
    below = replace(inherit(inherited, item), notify=called)
    parts = {
        part: load_nodes(item.get(part), item.at(part), below, importer, handlers=handlers)
        for part in ("block", "rescue", "always")
    }
    return Block(item.place, parts["block"], parts["rescue"], parts["always"])


def load_task(item: Mapping, inherited: Inherited, *, handler: bool = False) -> Task:
    """One task. Raises PlaybookError as `load_nodes`."""
    known = keywords.HANDLER if handler else keywords.TASK
    name, given, place = _action(item, known)
    module = catalog.short_name(name)
    loop_with, loop = _loop(item)
    problem = _loops_over_nothing(item, loop_with)
    if problem:
        loop_with, loop = "", None
    _refuse_texts(item)
    below = inherit(inherited, item)
    if "local_action" in item:
        below = replace(below, settings={"delegate_to": "localhost", **below.settings})
    try:
        if problem:
            raise problem
        if not catalog.is_known(module) and _has_own_file(name, below):
            raise unsupported.refusal(name, place, own=True)
        _refuse_module(name, place, known)
        _refuse_async(item, module)
        defaults = below.module_defaults.get(module, {})
        arguments = load_arguments(module, given, item.get("args"), place, defaults)
    except unsupported.Unsupported as error:
        if not (below.when or loop_with or is_template(loop)):
            raise
        module, arguments = unsupported.MODULE, unsupported.arguments(error)
    return Task(
        item.place, module, arguments, below, inherited, written=name, is_handler=handler,
        loop=loop, loop_with=loop_with, **_keywords(item, below),
    )  # fmt: skip


def _keywords(item: Mapping, below: Inherited) -> dict[str, Any]:
    """The fields of a task that its keywords fill, one each."""
    return {
        "vars": item.get("vars") or {},
        "name": item.get("name"),
        "loop_control": _loop_control(item),
        "register": item.get("register"),
        "changed_when": as_tuple(item.get("changed_when")),
        "failed_when": as_tuple(item.get("failed_when")),
        "until": as_tuple(item.get("until")),
        "retries": item.get("retries"),
        "delay": item.get("delay", 5),
        "seconds_max": item.get("async"),
        "poll": item.get("poll"),
        "notify": (*below.notify, *as_tuple(item.get("notify"))),
        "listen": tuple(str(name) for name in as_tuple(item.get("listen"))),
    }


def _loops_over_nothing(item: Mapping, name: str) -> PlaybookError | None:
    """The error, to raise, that a loop names a lookup that is not there."""
    if not name or short_name(name) in LOOKUPS:
        return None
    of_ansible = unsupported.is_known_in_templates("lookup", name)
    at = item.at(f"with_{name}")
    return (unsupported.Unsupported if of_ansible else PlaybookError)(
        f"with_{name}: there is no lookup {name!r}", path=at.path, line=at.line, column=at.column,
        hint=unsupported.hint_in_templates("lookup", name, LOOKUPS),
    )  # fmt: skip


def _refuse_async(item: Mapping, module: str) -> None:
    """What is done here, or needs a file from here, cannot be left running."""
    if "async" in item and not catalog.runs_by_itself(module):
        raise item.at("async").error(
            f"{module} cannot run by itself on a host", hint="leave out async and poll"
        )


def _action(item: Mapping, known: frozenset[str] | set[str]) -> tuple[str, Any, Place]:
    """The name of the module as written, what is given to it, and where."""
    found = [key for key in item if key not in known and not key.startswith("with_")]
    for key in found:
        if key in keywords.REFUSED:
            raise item.at(key).error(f"`{key}` is not supported", hint=keywords.REFUSED[key])
        if key in ("rescue", "always"):
            raise item.at(key).error(f"`{key}` needs a `block`", hint="- block: […], above it")
    found += [key for key in _ACTIONS if key in item]
    if not found:
        raise item.place.error("the task names no module", hint="for example `debug: msg=…`")
    if len(found) > 1:
        for key in found:
            if key not in _ACTIONS:
                _refuse_module(key, item.at(key), known)
        raise item.at(found[1]).error(
            f"a task names one module; this one names {found[0]} and {found[1]}"
        )
    key = found[0]
    name, given = _old_action(item, key) if key in _ACTIONS else (key, item[key])
    return name, given, item.at(key)


def _has_own_file(name: str, inherited: Inherited) -> bool:
    """Whether a role or the playbook brings a module of that name itself, in `library`."""
    return any((one / "library" / f"{name}.py").is_file() for one in inherited.folders)


def _refuse_module(name: str, place: Place, known: Iterable[str]) -> None:
    """Refuse what is no module.

    Raises:
        Unsupported: It is one of Ansible's.
        PlaybookError: It is none at all.
    """
    short = catalog.short_name(name)
    if catalog.is_known(short):
        return
    if is_template(name):
        raise place.error(
            "the name of a module is no template here: arguments are checked before anything runs",
            hint="a task for each module, with `when`; or `include_tasks`: its file may be one",
        )
    if unsupported.is_of_ansible(name):
        raise unsupported.refusal(name, place)
    names = sorted({*known, *catalog.names(), *catalog.FLOW})
    close = difflib.get_close_matches(short, names, n=1, cutoff=_TYPO)
    raise place.error(
        f"`{name}` is neither a keyword nor a module that is supported",
        hint=f"did you mean `{close[0]}`?" if close else unsupported.ANY_OTHER,
    )


def _old_action(item: Mapping, keyword: str) -> tuple[str, Any]:
    given = item[keyword]
    if isinstance(given, Mapping) and "module" in given:
        rest = Mapping(given.place)
        rest.update({key: value for key, value in given.items() if key != "module"})
        rest.places, rest.read_as = given.places, given.read_as
        return str(given["module"]), rest
    name, _, text = str(given).partition(" ")
    if is_template(given) and "{{" in name:
        name = str(given)
    return name, Text(text, item.at(keyword))


def _loop(item: Mapping) -> tuple[str, Any]:
    loops = [key for key in item if key == "loop" or key.startswith("with_")]
    if len(loops) > 1:
        raise item.at(loops[1]).error(f"a task loops once; {loops[0]} is there already")
    if not loops:
        return "", None
    value = item[loops[0]]
    if loops[0] == "loop":
        if not isinstance(value, list) and not is_template(value):
            raise place_of(value, item.at("loop")).error("`loop` takes a list")
        return "", value
    return loops[0].removeprefix("with_"), value


def _loop_control(item: Mapping) -> LoopControl:
    control = item.get("loop_control")
    if control is None:
        return LoopControl()
    if not isinstance(control, Mapping):
        raise item.at("loop_control").error("`loop_control` takes a mapping")
    keywords.refuse_unknown(control, keywords.LOOP_CONTROL, "loop_control")
    return LoopControl(
        loop_var=str(control.get("loop_var", "item")),
        index_var=control.get("index_var"),
        label=control.get("label"),
        extended=bool(control.get("extended", False)),
        all_items=bool(control.get("extended_allitems", True)),
        break_when=as_tuple(control.get("break_when")),
        pause=control.get("pause"),
    )


def _refuse_texts(item: Mapping) -> None:
    """Refuse names that cannot be variables."""
    register = item.get("register")
    if register is not None and not (isinstance(register, str) and register.isidentifier()):
        raise place_of(register, item.at("register")).error(
            f"{register!r} is no name of a variable", hint="letters, digits and _"
        )
