"""Loads a play: its tasks, its roles with what these need, and later what its tasks include."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from sappers.provisioner.playbook.language import keywords
from sappers.provisioner.playbook.language.files import Reading
from sappers.provisioner.playbook.language.import_names import import_name
from sappers.provisioner.playbook.language.load_inherited import as_tuple, inherit, setting
from sappers.provisioner.playbook.language.load_prompts import load_prompts
from sappers.provisioner.playbook.language.load_tasks import load_nodes
from sappers.provisioner.playbook.language.model import (
    Block,
    Inherited,
    Node,
    Play,
    Role,
    RoleOrigin,
    Task,
    tasks_in,
)
from sappers.provisioner.playbook.language.roles import FoundRole, LoadedRole, RoleFiles
from sappers.provisioner.source import Items, Mapping, Place, is_template, place_of

IMPORTS_MAX = 50


class PlayLoader:
    """Loads one play, and later what its tasks include."""

    def __init__(self, folder: Path, how: Reading) -> None:
        self._folder = folder
        self._how = how
        self._role_files = RoleFiles(folder, how.files, how.roles_path, how.collections_path)
        self._variables: dict[str, Any] = {"playbook_dir": str(folder.absolute())}
        self._depth = 0
        self._seen_roles: set[str] = set()
        self.handlers: list[Task] = []
        self.roles: list[Role] = []

    def load(self, item: Mapping) -> Play:
        """The play. Raises PlaybookError."""
        item = keywords.with_newer_names(item)
        _check_play(item)
        inherited = replace(inherit(Inherited(), item), vars=(), folders=(self._folder,))
        self._variables |= {**(item.get("vars") or {}), **self._files_named(item)}
        before = self._nodes(item, "pre_tasks", inherited)
        imported = len(self.handlers)
        roles = self._roles(item, inherited)
        of_roles = self.handlers[imported:]
        sections = (
            before,
            roles + self._nodes(item, "tasks", inherited),
            self._nodes(item, "post_tasks", inherited),
        )
        own = load_nodes(item.get("handlers"), item.at("handlers"), inherited, self, handlers=True)
        of_imports = [one for one in self.handlers if one not in of_roles]
        handlers = (*of_roles, *_only_tasks(own), *of_imports)
        _refuse_unknown_handlers(sections, handlers)
        return self._play(item, inherited, sections, handlers)

    def _play(
        self, item: Mapping, inherited: Inherited, sections: tuple[tuple[Node, ...], ...],
        handlers: tuple[Task, ...],
    ) -> Play:  # fmt: skip
        return Play(
            place=item.place,
            name=item.get("name"),
            hosts=item["hosts"],
            inherited=inherited,
            sections=sections,
            handlers=handlers,
            vars=item.get("vars") or {},
            vars_files=as_tuple(item.get("vars_files")),
            vars_prompt=load_prompts(item),
            gather_facts=setting(item, "gather_facts"),
            gathering={key: item[key] for key in sorted(keywords.GATHERING) if key in item},
            serial=item.get("serial"),
            max_fail_percentage=item.get("max_fail_percentage"),
            strategy=str(item.get("strategy", "linear")).removeprefix("ansible.builtin."),
            order=str(item.get("order", "inventory")),
            force_handlers=setting(item, "force_handlers"),
            folder=self._folder,
            roles=tuple(self.roles),
            loader=self,
        )

    def import_tasks(self, task: Task) -> tuple[Node, ...]:
        """As `Importer`."""
        name = self._name(task.arguments["file"], task.place, task.inherited)
        return self.tasks_of_file(name, task, task.inherited)

    def import_role(self, task: Task) -> tuple[Node, ...]:
        """As `Importer`."""
        name = self._name(task.arguments["name"], task.place, task.inherited)
        return self.tasks_of_role(name, task.arguments, task.inherited, task.place)

    def _name(self, value: Any, place: Place, inherited: Inherited) -> str:
        """A name of what is imported. Raises PlaybookError."""
        return import_name(
            value, place, extra=self._how.extra, inherited=inherited, play=self._variables,
            roles=self.roles, instead="write include_tasks or include_role",
        )  # fmt: skip

    def _files_named(self, item: Mapping) -> dict[str, Any]:
        """The variables of those `vars_files` whose names need none."""
        found: dict[str, Any] = {}
        for name in as_tuple(item.get("vars_files")):
            path = self._folder / str(name)
            if isinstance(name, str) and not is_template(name) and path.is_file():
                found.update(self._how.files.read_variables(path))
        return found

    def tasks_of_file(self, name: str, task: Task, inherited: Inherited) -> tuple[Node, ...]:
        """The tasks of a file that a task includes or imports.

        Raises:
            PlaybookError: There is none such, it is wrong, or it includes itself without end.
        """
        candidates = self._task_files(name, task, inherited)
        path = next((one for one in candidates if one.is_file()), None)
        if path is None:
            raise task.place.error(
                f"there is no task file {name}",
                hint="looked for: " + ", ".join(dict.fromkeys(map(str, candidates))),
            )
        return self._deeper(
            task.place,
            lambda: load_nodes(
                self._how.files.read(path),
                Place(str(path), 1, 1),
                replace(inherited, folders=_search_path(inherited, path.parent)),
                self,
                handlers=task.is_handler,
            ),
        )

    def _task_files(self, name: str, task: Task, inherited: Inherited) -> list[Path]:
        """Where a task file may be."""
        candidates = [Path(task.place.path).parent / name, self._folder / name]
        if inherited.role:
            kind = "handlers" if task.is_handler else "tasks"
            candidates.insert(0, inherited.role.folder / kind / name)
        return candidates

    def ahead(self, task: Task) -> tuple[Node, ...]:
        """What an include whose name is no template will bring; the play keeps nothing of it.

        None where there is no such file or role, which a task before it may bring.

        Raises:
            PlaybookError: It is wrong.
        """
        # Of a loop nobody can tell whether it has any item.
        below = replace(task.inherited, when=(True,) if task.loop or task.loop_with else ())
        loader = PlayLoader(self._folder, self._how)
        loader._variables = self._variables
        if task.module == "include_tasks":
            name = str(task.arguments["file"])
            if not any(one.is_file() for one in self._task_files(name, task, below)):
                return ()
            below = replace(below, collections=task.around.collections)
            return loader.tasks_of_file(name, task, below)
        name = str(task.arguments["name"])
        if not self._role_files.has(name, task.place, below.collections):
            return ()
        nodes = loader.tasks_of_role(name, task.arguments, below, task.place)
        return (*nodes, *loader.handlers)

    def tasks_of_role(
        self, name: str, arguments: AnyMapping[str, Any], inherited: Inherited, place: Place,
        origin: RoleOrigin = "task",
    ) -> tuple[Node, ...]:  # fmt: skip
        """The tasks of a role and before them those of its dependencies; its handlers are kept.

        Raises:
            PlaybookError: There is no such role, it is wrong, or it needs itself.
        """
        found = self._role_files.find(name, place, inherited.collections)
        return self._tasks_of(found, arguments, inherited, place, origin)

    def _tasks_of(
        self, found: FoundRole, arguments: AnyMapping[str, Any], inherited: Inherited,
        place: Place, origin: RoleOrigin,
    ) -> tuple[Node, ...]:  # fmt: skip
        return self._deeper(place, lambda: self._role(found, arguments, inherited, place, origin))

    def _deeper(self, place: Place, load: Any) -> tuple[Node, ...]:
        self._depth += 1
        try:
            if self._depth > IMPORTS_MAX:
                raise place.error(
                    f"imports more than {IMPORTS_MAX} deep, or one of itself without end"
                )
            nodes: tuple[Node, ...] = load()
            return nodes
        finally:
            self._depth -= 1

    def _role(
        self, found: FoundRole, arguments: AnyMapping[str, Any], inherited: Inherited,
        place: Place, origin: RoleOrigin,
    ) -> tuple[Node, ...]:  # fmt: skip
        loaded = self._role_files.load(found, arguments, place)
        # A task may include its own role again under a condition, as in Ansible.
        if origin != "task" and found.folder in {one.folder for one in inherited.roles}:
            raise place.error(f"the role {found.name} needs itself")
        needs = []
        for one in loaded.dependencies:
            at = place_of(one, place)
            needs.append((self._named(one, at, inherited, found.beside), one, at))
        names = tuple(needed.name for needed, _, _ in needs)
        role = _role_of(loaded, arguments, inherited.role, names, origin)
        if not role.is_again:
            self.roles.append(role)
        below = replace(
            inherited, role=role, roles=(*inherited.roles, role), collections=found.beside
        )
        nodes: list[Node] = []
        for needed, dependency, at in needs:
            nodes.extend(self._role_entry(needed, dependency, at, below, "dependency"))
        below = replace(below, collections=loaded.collections)
        within = {
            kind: replace(below, folders=_search_path(below, role.folder / kind))
            for kind in ("tasks", "handlers")
        }
        handlers = load_nodes(loaded.handlers, place, within["handlers"], self, handlers=True)
        if not role.is_again:
            self.handlers.extend(_only_tasks(handlers))
        nodes.extend(load_nodes(loaded.checks, place, within["tasks"], self))
        nodes.extend(load_nodes(loaded.tasks, place, within["tasks"], self))
        return tuple(nodes)

    def _roles(self, item: Mapping, inherited: Inherited) -> tuple[Node, ...]:
        roles = item.get("roles")
        if roles is None:
            return ()
        if not isinstance(roles, Items):
            raise item.at("roles").error("`roles` takes a list")
        nodes: list[Node] = []
        for entry, at in zip(roles, roles.places, strict=True):
            found = self._named(entry, at, inherited, inherited.collections)
            nodes.extend(self._role_entry(found, entry, at, inherited, "play"))
        return tuple(nodes)

    def _named(
        self, entry: Any, at: Place, inherited: Inherited, collections: Sequence[str]
    ) -> FoundRole:
        """The role that an item of `roles` or of dependencies names."""
        name = self._name(_name_of(entry, at), at, inherited)
        return self._role_files.find(name, at, collections)

    def _role_entry(
        self, found: FoundRole, entry: Any, at: Place, inherited: Inherited, origin: RoleOrigin
    ) -> tuple[Node, ...]:
        """One item of `roles` or of a role's dependencies; what has run is not run again."""
        below = inherited
        told: dict[str, Any] = {}
        if isinstance(entry, Mapping):
            # Its `vars` are the role's, and no layer of each of its tasks.
            below = replace(
                inherit(inherited, entry), vars=inherited.vars, collections=inherited.collections
            )
            told = {"params": _params_of(entry), "given": entry.get("vars") or Mapping(at)}
        which = (found.name, str(found.folder))  # those in folders of a collection share a name
        key = repr([*which, *(sorted(one.items()) for one in told.values() if one), *_own(entry)])
        is_again = key in self._seen_roles
        self._seen_roles.add(key)
        if not self._role_files.allows_duplicates(found):
            told.update(key=key, is_again=is_again)
        return self._tasks_of(found, told, below, at, origin)

    def _nodes(self, item: Mapping, key: str, inherited: Inherited) -> tuple[Node, ...]:
        return load_nodes(item.get(key), item.at(key), inherited, self)


def _role_of(
    loaded: LoadedRole, arguments: AnyMapping[str, Any], outer: Role | None,
    dependencies: tuple[str, ...], origin: RoleOrigin,
) -> Role:  # fmt: skip
    return Role(
        loaded.found.name,
        loaded.found.folder,
        loaded.defaults,
        loaded.vars,
        params=arguments.get("params") or {},
        given=arguments.get("given") or {},
        parents=_parents(outer, origin),
        dependencies=dependencies,
        origin=origin,
        key=arguments.get("key", ""),
        is_again=arguments.get("is_again", False),
        collection=loaded.found.collection,
    )


def _own(entry: Any) -> tuple[Any, ...]:
    """What makes of a role another one, beside what it is given, as in Ansible."""
    if not isinstance(entry, Mapping):
        return ()
    names = ("when", "tags")
    return tuple((name, list(as_tuple(entry[name]))) for name in names if name in entry)


def _params_of(entry: Mapping) -> Mapping:
    """The parameters of a role entry: names that are no keywords."""
    params = Mapping(entry.place)
    for key, value in entry.items():
        if key not in keywords.ROLE:
            params[key], params.places[key] = value, entry.at(key)
    keywords.refuse_variables(params)
    return params


def _parents(outer: Role | None, origin: RoleOrigin) -> tuple[Role, ...]:
    """The roles whose tasks include one that is asked for within another."""
    if outer is None:
        return ()
    return (*outer.parents, outer) if origin == "task" else outer.parents


def _only_tasks(nodes: tuple[Node, ...]) -> tuple[Task, ...]:
    """Handlers. Those of a block are called one by one: it has no name, and nothing rescues it."""
    each: list[Task] = []
    for node in nodes:
        for one in node.body if isinstance(node, Block) else (node,):
            if not isinstance(one, Task):
                raise one.place.error(
                    "a block in a block of handlers", hint="write its tasks as handlers"
                )
            each.append(one)
    return tuple(each)


def _search_path(inherited: Inherited, folder: Path) -> tuple[Path, ...]:
    """Where tasks of a file in a folder look for theirs, in Ansible's order."""
    roles = (role.folder for role in reversed(inherited.roles))
    return tuple(dict.fromkeys((*roles, folder, inherited.folders[-1])))


def _name_of(entry: Any, at: Place) -> str:
    """What an item of `roles` or of dependencies says the role's name is."""
    if isinstance(entry, str):
        return entry
    name = entry.get("role") or entry.get("name") if isinstance(entry, Mapping) else None
    if not name:
        raise at.error("expected the name of a role", hint="- role: NAME")
    return name if isinstance(name, str) else str(name)


def _refuse_unknown_handlers(
    sections: tuple[tuple[Node, ...], ...], handlers: tuple[Task, ...]
) -> None:
    """Refuse to call a handler that is not there, where no include can bring it."""
    tasks = [task for section in sections for task in tasks_in(section)]
    if any(task.module.startswith("include_") for task in tasks):
        return
    known = {name for handler in handlers for name in handler.names}
    if any(is_template(name) for name in known):
        return
    for task in (*tasks, *handlers):
        for name in task.notify:
            if not is_template(name) and str(name) not in known:
                raise place_of(name, task.place).error(
                    f"there is no handler {str(name)!r}",
                    hint=keywords.instead(str(name), known, "handlers") if known else None,
                )


def _check_play(item: Mapping) -> None:
    keywords.refuse_unknown(item, keywords.PLAY, "play")
    if "hosts" not in item or item["hosts"] in (None, "", []):
        raise item.place.error("the play has no `hosts`", hint="hosts: all")
    strategy = str(item.get("strategy", "linear")).removeprefix("ansible.builtin.")
    if strategy not in ("linear", "free", "host_pinned"):
        raise item.at("strategy").error(
            f"the strategy {strategy!r} is not supported", hint="linear and free are"
        )
    orders = ("inventory", "reverse_inventory", "sorted", "reverse_sorted", "shuffle")
    if str(item.get("order", "inventory")) not in orders:
        raise item.at("order").error(f"`order` is one of {', '.join(orders)}")
