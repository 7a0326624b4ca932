"""Plays, blocks and tasks as loaded: checked, keywords inherited, templates not rendered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from sappers.provisioner.source import Place

Vars = Mapping[str, Any]
RoleOrigin = Literal["play", "dependency", "task"]


class Role(msgspec.Struct, frozen=True):
    """A role as one play uses it.

    Attributes:
        name: As written; with its collection, where it is of one.
        defaults, vars: What `defaults/main` and `vars/main` say.
        params: What the play, or the role that needs it, gives beside its name.
        given: The `vars` that it is named with.
        parents: The roles whose tasks include it, outermost first.
        dependencies: Names of the roles that it needs.
        origin: Who asks for it: the play's `roles`, a role that needs it, or a task.
        key: Uses that have the same do its tasks once on each host; empty: as often as it is used.
        is_again: A use of the same key stands before it.
        collection: NAMESPACE.NAME of the collection that it is of; empty: of none.
    """

    name: str
    folder: Path
    defaults: Vars = msgspec.field(default_factory=dict)
    vars: Vars = msgspec.field(default_factory=dict)
    params: Vars = msgspec.field(default_factory=dict)
    given: Vars = msgspec.field(default_factory=dict)
    parents: tuple[Role, ...] = ()
    dependencies: tuple[str, ...] = ()
    origin: RoleOrigin = "task"
    key: str = ""
    is_again: bool = False
    collection: str = ""

    def __repr__(self) -> str:
        return f"Role({self.name!r})"  # its variables may hold what no log or traceback shows

    @property
    def short_name(self) -> str:
        """Without its collection or folders."""
        return self.name.rpartition("." if self.collection else "/")[2]


class Inherited(msgspec.Struct, frozen=True):
    """What blocks, roles and plays hand down to the tasks in them.

    Attributes:
        when: Conditions, outermost first; all have to hold.
        notify: Handlers that blocks call, outermost first.
        environment: Mappings or templates of them, outermost first.
        vars: Layers of variables, outermost first.
        params: What includes say of variables, outermost first; over what tasks have set.
        settings: Values of the keywords of which the nearest counts (`become`, `no_log`, …).
        roles: Those that a task is in, outermost first.
        folders: Where files are looked for: those of the roles, the innermost first, the task
            file's, the playbook's.
        collections: Those in which roles are looked for first, by short names.
    """

    when: tuple[Any, ...] = ()
    tags: frozenset[str] = frozenset()
    notify: tuple[Any, ...] = ()
    environment: tuple[Any, ...] = ()
    vars: tuple[Vars, ...] = ()
    params: tuple[Vars, ...] = ()
    settings: Mapping[str, Any] = msgspec.field(default_factory=dict)
    module_defaults: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    role: Role | None = None
    roles: tuple[Role, ...] = ()
    folders: tuple[Path, ...] = ()
    collections: tuple[str, ...] = ()


class LoopControl(msgspec.Struct, frozen=True):
    """How a loop names its items and shows them, how it waits between them, and where it ends.

    Attributes:
        all_items: `ansible_loop` has all of them, too.
        pause: Seconds.
        break_when: Conditions under which a turn is the last.
    """

    loop_var: str = "item"
    index_var: str | None = None
    label: Any = None
    extended: bool = False
    all_items: bool = True
    pause: Any = None
    break_when: tuple[Any, ...] = ()


class Task(msgspec.Struct, frozen=True, eq=False):
    """One task. What may hold a template is as it was read.

    Attributes:
        module: Its short name.
        written: The module as it is named there.
        inherited: What counts for it: of all around it, and its own.
        around: What all around it hands down; what it includes gets this, and its `vars`.
        vars: Its own.
        arguments: By name; a free form is under the name that the module has for it.
        loop_with: The lookup that makes the items, for `with_NAME`; empty for `loop`.
        listen: What a handler answers to beside its name.
        seconds_max: `async`: so long it may take; None or 0: it is a task as any other.
        poll: With `async`: 0 leaves it running.
    """

    place: Place
    module: str
    arguments: Mapping[str, Any]
    inherited: Inherited
    around: Inherited = Inherited()
    vars: Vars = msgspec.field(default_factory=dict)
    name: Any = None
    loop: Any = None
    loop_with: str = ""
    loop_control: LoopControl = LoopControl()
    register: str | None = None
    changed_when: tuple[Any, ...] = ()
    failed_when: tuple[Any, ...] = ()
    until: tuple[Any, ...] = ()
    retries: Any = None
    delay: Any = 5
    seconds_max: Any = None
    poll: Any = None
    notify: tuple[Any, ...] = ()
    listen: tuple[str, ...] = ()
    is_handler: bool = False
    written: str = ""

    def setting(self, name: str) -> Any:
        """A keyword's value, its own or inherited; None where nobody says anything."""
        return self.inherited.settings.get(name)

    @property
    def names(self) -> frozenset[str]:
        """The names that a handler answers to."""
        role, name = self.inherited.role, str(self.name or "")
        of_role = {f"{one} : {name}" for one in (role.name, role.short_name)} if role else set()
        return frozenset({name, *self.listen, *of_role} - {""})

    @property
    def title(self) -> str:
        """What it is called where no template can be rendered."""
        return titled(self, str(self.name or self.written or self.module))


def titled(task: Task, name: str) -> str:
    """A task's name with that of its role; what includes one goes without."""
    role = task.inherited.role
    return f"{role.name} : {name}" if role and task.module != "include_role" else name


class Block(msgspec.Struct, frozen=True):
    """Tasks that are run together; what fails in `body` is mended by `rescue`."""

    place: Place
    body: tuple[Node, ...]
    rescue: tuple[Node, ...] = ()
    always: tuple[Node, ...] = ()


Node = Task | Block


def tasks_in(nodes: Sequence[Node]) -> Iterator[Task]:
    """All tasks, those of blocks in their place."""
    for node in nodes:
        if isinstance(node, Task):
            yield node
        else:
            yield from tasks_in((*node.body, *node.rescue, *node.always))


class Includer(Protocol):
    """Who loads what is included while a play runs."""

    @property
    def handlers(self) -> list[Task]:
        """The handlers of all roles loaded so far."""

    @property
    def roles(self) -> list[Role]:
        """All roles loaded so far."""

    def tasks_of_file(self, name: str, task: Task, inherited: Inherited) -> tuple[Node, ...]:
        """The tasks of a file. Raises PlaybookError."""

    def tasks_of_role(
        self, name: str, arguments: Mapping[str, Any], inherited: Inherited, place: Place
    ) -> tuple[Node, ...]:
        """The tasks of a role. Raises PlaybookError."""

    def ahead(self, task: Task) -> tuple[Node, ...]:
        """What an include whose name is no template will bring. Raises PlaybookError."""


class VarsPrompt(msgspec.Struct, frozen=True):
    """A variable that a person is asked for.

    Attributes:
        private: What is typed is not shown.
        confirm: It is asked twice.
        encrypt: The kind of hash that the variable gets instead of what was typed.
    """

    name: str
    text: Any
    default: Any = None
    private: bool = True
    confirm: bool = False
    encrypt: str | None = None
    salt: str | None = None
    salt_size: int | None = None


class Play(msgspec.Struct, frozen=True):
    """One play.

    Attributes:
        gathering: Arguments of the task that gathers facts.
        opens: It is the first of another playbook, which does not begin after one that failed.
        sections: pre_tasks, roles with tasks, post_tasks; after each the notified handlers run.
        loader: Loads what its tasks include while it runs.
    """

    place: Place
    name: Any
    hosts: Any
    inherited: Inherited
    sections: tuple[tuple[Node, ...], ...]
    handlers: tuple[Task, ...] = ()
    vars: Vars = msgspec.field(default_factory=dict)
    vars_files: tuple[Any, ...] = ()
    vars_prompt: tuple[VarsPrompt, ...] = ()
    gather_facts: Any = None
    gathering: Vars = msgspec.field(default_factory=dict)
    serial: Any = ()
    max_fail_percentage: Any = None
    strategy: str = "linear"
    order: str = "inventory"
    force_handlers: Any = None
    folder: Path = Path()
    roles: tuple[Role, ...] = ()
    loader: Includer | None = None
    opens: bool = False
