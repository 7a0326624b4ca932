"""Loads playbooks: plays, the roles they use, and what they import, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sappers.provisioner.playbook import keywords
from sappers.provisioner.playbook.arguments import is_template
from sappers.provisioner.playbook.filters import to_bool
from sappers.provisioner.playbook.handlers import names_of
from sappers.provisioner.playbook.hashing import is_kind
from sappers.provisioner.playbook.load_tasks import as_tuple, inherit, load_nodes
from sappers.provisioner.playbook.model import (
    Inherited,
    Node,
    Play,
    Role,
    RoleOrigin,
    Task,
    VarsPrompt,
)
from sappers.provisioner.playbook.roles import RoleFiles
from sappers.provisioner.playbook.segments import tasks_in
from sappers.provisioner.source import Decrypt, Items, Mapping, Place, place_of, read_file

IMPORTS_MAX = 50
_PLAYBOOK_IMPORTS = ("import_playbook", "ansible.builtin.import_playbook")


@dataclass(frozen=True)
class Reading:
    """How files are read: what opens Vault's, and where roles may be beside the usual folders."""

    decrypt: Decrypt | None = None
    roles_path: tuple[Path, ...] = ()


def load_playbook(
    path: Path, decrypt: Decrypt | None = None, roles_path: Sequence[Path] = ()
) -> tuple[Play, ...]:
    """The plays of a playbook and of those it imports, in order.

    Raises:
        PlaybookError: Something in it, or in a file it imports, is wrong; at its place.
    """
    return _load_file(path, Reading(decrypt, tuple(roles_path)), ())


def _load_file(path: Path, how: Reading, above: tuple[Path, ...]) -> tuple[Play, ...]:
    content = read_file(path, how.decrypt)
    place = Place(str(path), 1, 1)
    if not isinstance(content, Items) or not content:
        raise place.error("a playbook is a list of plays", hint="begin each with `- hosts: …`")
    if path in above or len(above) > IMPORTS_MAX:
        raise place.error("it imports itself")
    return _load_plays(content, path, how, above)


def load_plays(content: Items, folder: Path, decrypt: Decrypt | None = None) -> tuple[Play, ...]:
    """The plays of a list that was read already. Raises as `load_playbook`."""
    return _load_plays(content, folder / "(plays)", Reading(decrypt), ())


def _load_plays(
    content: Items, path: Path, how: Reading, above: tuple[Path, ...]
) -> tuple[Play, ...]:
    plays: list[Play] = []
    for item, at in zip(content, content.places, strict=True):
        if not isinstance(item, Mapping):
            raise at.error("expected a play: a mapping with `hosts`")
        imported = next((key for key in _PLAYBOOK_IMPORTS if key in item), None)
        if imported:
            plays.extend(_import_plays(item, imported, path, how, above))
        else:
            plays.append(PlayLoader(path.parent, how).load(item))
    return tuple(plays)


def _import_plays(
    item: Mapping, key: str, path: Path, how: Reading, above: tuple[Path, ...]
) -> tuple[Play, ...]:
    keywords.refuse_unknown(item, {key, "name", "tags", "vars", "when"}, "imported playbook")
    name = str(item[key])
    if is_template(name):
        raise item.at(key).error("the name of an imported playbook is no template")
    if not (path.parent / name).is_file():
        raise place_of(item[key], item.at(key)).error(
            f"there is no playbook {name}", hint=f"looked for: {path.parent / name}"
        )
    handed = inherit(Inherited(), item)
    return tuple(
        replace(play, inherited=_under(handed, play.inherited),
                sections=tuple(_nodes_under(handed, nodes) for nodes in play.sections))
        for play in _load_file(path.parent / name, how, (*above, path))
    )  # fmt: skip


def _under(outer: Inherited, inner: Inherited) -> Inherited:
    return replace(
        inner,
        when=(*outer.when, *inner.when),
        tags=outer.tags | inner.tags,
        vars=(*outer.vars, *inner.vars),
    )


def _nodes_under(outer: Inherited, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    return tuple(
        replace(
            node,
            inherited=_under(outer, node.inherited),
            around=_under(outer, node.around),
        )
        if isinstance(node, Task)
        else replace(
            node,
            body=_nodes_under(outer, node.body),
            rescue=_nodes_under(outer, node.rescue),
            always=_nodes_under(outer, node.always),
        )
        for node in nodes
    )


class PlayLoader:
    """Loads one play, and later what its tasks include."""

    def __init__(self, folder: Path, how: Reading) -> None:
        self._folder = folder
        self._how = how
        self._decrypt = how.decrypt
        self._role_files = RoleFiles(folder, how.decrypt, how.roles_path)
        self._depth = 0
        self._seen_roles: set[tuple[str, str]] = set()
        self.handlers: list[Task] = []
        self.roles: list[Role] = []

    def load(self, item: Mapping) -> Play:
        """The play. Raises PlaybookError."""
        keywords.refuse_unknown(item, keywords.PLAY, "play")
        if "hosts" not in item or item["hosts"] in (None, "", []):
            raise item.place.error("the play has no `hosts`", hint="hosts: all")
        _check_play(item)
        inherited = replace(inherit(Inherited(), item), vars=(), folders=(self._folder,))
        sections = (
            self._nodes(item, "pre_tasks", inherited),
            self._roles(item, inherited) + self._nodes(item, "tasks", inherited),
            self._nodes(item, "post_tasks", inherited),
        )
        own = load_nodes(item.get("handlers"), item.at("handlers"), inherited, self, handlers=True)
        handlers = (*self.handlers, *only_tasks(own))
        _refuse_unknown_handlers(sections, handlers)
        return Play(
            place=item.place,
            name=item.get("name"),
            hosts=item["hosts"],
            inherited=inherited,
            sections=sections,
            handlers=handlers,
            vars=item.get("vars") or {},
            vars_files=as_tuple(item.get("vars_files")),
            vars_prompt=_prompts(item),
            gather_facts=item.get("gather_facts", True),
            gathering={key: item[key] for key in sorted(keywords.GATHERING) if key in item},
            serial=as_tuple(item.get("serial")),
            max_fail_percentage=item.get("max_fail_percentage"),
            strategy=str(item.get("strategy", "linear")).removeprefix("ansible.builtin."),
            order=str(item.get("order", "inventory")),
            force_handlers=item.get("force_handlers"),
            folder=self._folder,
            roles=tuple(self.roles),
            loader=self,
        )

    def import_tasks(self, task: Task) -> tuple[Node, ...]:
        """As `Importer`."""
        name = task.arguments["file"]
        if is_template(name):
            raise task.place.error(
                "import_tasks is done before any variable is known", hint="write include_tasks"
            )
        return self.tasks_of_file(str(name), task, task.inherited)

    def import_role(self, task: Task) -> tuple[Node, ...]:
        """As `Importer`."""
        name = task.arguments["name"]
        if is_template(name):
            raise task.place.error(
                "import_role is done before any variable is known", hint="write include_role"
            )
        return self.tasks_of_role(str(name), task.arguments, task.inherited, task.place)

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
                read_file(path, self._decrypt),
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
        if task.module == "include_tasks":
            name = str(task.arguments["file"])
            if not any(one.is_file() for one in self._task_files(name, task, below)):
                return ()
            return loader.tasks_of_file(name, task, below)
        name = str(task.arguments["name"])
        if not self._role_files.has(name, task.place):
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
        return self._deeper(place, lambda: self._role(name, arguments, inherited, place, origin))

    def _deeper(self, place: Place, load: Any) -> tuple[Node, ...]:
        self._depth += 1
        try:
            if self._depth > IMPORTS_MAX:
                raise place.error("it imports itself without end")
            nodes: tuple[Node, ...] = load()
            return nodes
        finally:
            self._depth -= 1

    def _role(
        self, name: str, arguments: AnyMapping[str, Any], inherited: Inherited, place: Place,
        origin: RoleOrigin,
    ) -> tuple[Node, ...]:  # fmt: skip
        loaded = self._role_files.load(name, arguments, place)
        # A task may include its own role again under a condition, as in Ansible.
        if origin != "task" and name in {one.name for one in inherited.roles}:
            raise place.error(f"the role {name} needs itself")
        outer = inherited.role
        role = Role(
            loaded.name,
            loaded.folder,
            loaded.defaults,
            loaded.vars,
            params=arguments.get("params") or {},
            given=arguments.get("given") or {},
            parents=_parents(outer, origin),
            dependencies=tuple(_name_of(one, place_of(one, place)) for one in loaded.dependencies),
            origin=origin,
        )
        self.roles.append(role)
        below = replace(inherited, role=role, roles=(*inherited.roles, role))
        nodes: list[Node] = []
        for dependency in loaded.dependencies:
            at = place_of(dependency, place)
            nodes.extend(self._role_entry(dependency, at, below, "dependency"))
        within = {
            kind: replace(below, folders=_search_path(below, role.folder / kind))
            for kind in ("tasks", "handlers")
        }
        handlers = load_nodes(loaded.handlers, place, within["handlers"], self, handlers=True)
        self.handlers.extend(only_tasks(handlers))
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
            nodes.extend(self._role_entry(entry, at, inherited, "play"))
        return tuple(nodes)

    def _role_entry(
        self, entry: Any, at: Place, inherited: Inherited, origin: RoleOrigin
    ) -> tuple[Node, ...]:
        """One item of `roles` or of a role's dependencies; what ran once is not run again."""
        name = _name_of(entry, at)
        below = inherited
        told: dict[str, Mapping] = {}
        if isinstance(entry, Mapping):
            # Its `vars` are the role's, and no layer of each of its tasks.
            below = replace(inherit(inherited, entry), vars=inherited.vars)
            told = {"params": _params_of(entry), "given": entry.get("vars") or Mapping(at)}
        key = (name, repr([sorted(one.items()) for one in told.values() if one]))
        if key in self._seen_roles and not self._role_files.allows_duplicates(name, at):
            return ()
        self._seen_roles.add(key)
        return self.tasks_of_role(name, told, below, at, origin)

    def _nodes(self, item: Mapping, key: str, inherited: Inherited) -> tuple[Node, ...]:
        return load_nodes(item.get(key), item.at(key), inherited, self)


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


def only_tasks(nodes: tuple[Node, ...]) -> tuple[Task, ...]:
    """Handlers; a block among them is refused."""
    for node in nodes:
        if not isinstance(node, Task):
            raise node.place.error("a block is no handler", hint="write its tasks as handlers")
    return tuple(node for node in nodes if isinstance(node, Task))


def _search_path(inherited: Inherited, folder: Path) -> tuple[Path, ...]:
    """Where tasks of a file in a folder look for theirs, in Ansible's order."""
    roles = (role.folder for role in reversed(inherited.roles))
    return tuple(dict.fromkeys((*roles, folder, inherited.folders[-1])))


def _name_of(entry: Any, at: Place) -> str:
    """The role that an item of `roles` or of dependencies names."""
    if isinstance(entry, str):
        return entry
    name = entry.get("role") or entry.get("name") if isinstance(entry, Mapping) else None
    if not name:
        raise at.error("expected the name of a role", hint="- role: NAME")
    return str(name)


def _refuse_unknown_handlers(
    sections: tuple[tuple[Node, ...], ...], handlers: tuple[Task, ...]
) -> None:
    """Refuse to call a handler that is not there, where no include can bring it."""
    tasks = [task for section in sections for task in tasks_in(section)]
    if any(task.module.startswith("include_") for task in tasks):
        return
    known = {name for handler in handlers for name in names_of(handler)}
    if any(is_template(name) for name in known):
        return
    for task in (*tasks, *handlers):
        for name in task.notify:
            if not is_template(name) and str(name) not in known:
                raise place_of(name, task.place).error(
                    f"there is no handler {str(name)!r}",
                    hint=keywords.instead(str(name), known, "handlers") if known else None,
                )


def _prompts(item: Mapping) -> tuple[VarsPrompt, ...]:
    given = item.get("vars_prompt")
    if given is None:
        return ()
    if not isinstance(given, Items):
        raise item.at("vars_prompt").error("`vars_prompt` takes a list", hint="- name: VARIABLE")
    found = []
    for one, at in zip(given, given.places, strict=True):
        if not isinstance(one, Mapping) or not str(one.get("name", "")).isidentifier():
            raise at.error("a prompt has the `name` of a variable", hint="- name: VARIABLE")
        keywords.refuse_unknown(one, keywords.PROMPT, "prompt")
        found.append(_prompt(one))
    return tuple(found)


def _prompt(one: Mapping) -> VarsPrompt:
    encrypt, size = one.get("encrypt"), one.get("salt_size")
    if encrypt is not None and not is_kind(str(encrypt)):
        raise one.at("encrypt").error(
            f"there is no hash {str(encrypt)!r}", hint="sha512_crypt, sha256_crypt, bcrypt"
        )
    if size is not None and not (isinstance(size, int) and size > 0):
        raise one.at("salt_size").error("`salt_size` is a number of characters")
    name = str(one["name"])
    return VarsPrompt(
        name,
        one.get("prompt", name),
        one.get("default"),
        private=to_bool(one.get("private", True)),
        confirm=to_bool(one.get("confirm", False)),
        encrypt=None if encrypt is None else str(encrypt),
        salt=None if one.get("salt") is None else str(one["salt"]),
        salt_size=size,
    )


def _check_play(item: Mapping) -> None:
    strategy = str(item.get("strategy", "linear")).removeprefix("ansible.builtin.")
    if strategy not in ("linear", "free", "host_pinned"):
        raise item.at("strategy").error(
            f"the strategy {strategy!r} is not supported", hint="linear and free are"
        )
    orders = ("inventory", "reverse_inventory", "sorted", "reverse_sorted", "shuffle")
    if str(item.get("order", "inventory")) not in orders:
        raise item.at("order").error(f"`order` is one of {', '.join(orders)}")
