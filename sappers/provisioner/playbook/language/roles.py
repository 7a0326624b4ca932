"""Finds roles and reads their files: tasks, handlers, defaults, vars and meta."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from sappers.provisioner.playbook.language import keywords
from sappers.provisioner.playbook.language.files import PlaybookFiles
from sappers.provisioner.source import Items, Mapping, Place

_EXTENSIONS = (".yml", ".yaml", "")
_OF_VARIABLES = (".yml", ".yaml", ".json")
COLLECTIONS = ("~/.ansible/collections", "/usr/share/ansible/collections")
SYSTEM_FOLDERS = ("~/.ansible/roles", "/usr/share/ansible/roles", "/etc/ansible/roles")


_IN_COLLECTIONS = "ansible_collections"


class FoundRole(msgspec.Struct, frozen=True):
    """Where a role is.

    Attributes:
        name: As written; NAMESPACE.COLLECTION.ROLE where it is of a collection.
        collection: NAMESPACE.COLLECTION; empty: of none.
    """

    name: str
    folder: Path
    collection: str = ""

    @property
    def beside(self) -> tuple[str, ...]:
        """The collection in which roles that it needs are looked for first."""
        return (self.collection,) if self.collection else ()


class LoadedRole(msgspec.Struct, frozen=True):
    """What the files of a role say.

    Attributes:
        checks: The task that its arguments' specification makes, if any.
        collections: Those in which its tasks look for roles; none that the play names.
    """

    found: FoundRole
    tasks: Any = None
    handlers: Any = None
    defaults: AnyMapping[str, Any] = msgspec.field(default_factory=dict)
    vars: AnyMapping[str, Any] = msgspec.field(default_factory=dict)
    dependencies: tuple[Any, ...] = ()
    checks: Any = None
    collections: tuple[str, ...] = ()


class RoleFiles:
    """Roles as a playbook in a folder finds them.

    Args:
        more: Other folders of roles.
        collections: Folders of collections, instead of the usual ones.
    """

    def __init__(
        self, folder: Path, files: PlaybookFiles, more: Sequence[Path], collections: Sequence[Path]
    ) -> None:
        system = (Path(one).expanduser() for one in SYSTEM_FOLDERS)
        self._folders = [folder / "roles", *more, *system, folder]
        usual = (Path(one).expanduser() for one in COLLECTIONS)
        self._collections = [folder / "collections", *(collections or usual)]
        self._files = files

    def find(self, name: str, place: Place, collections: Sequence[str]) -> FoundRole:
        """A role. Those of collections are looked for first, as in Ansible.

        Args:
            collections: Those that a short name may be of.

        Raises:
            PlaybookError: There is none such.
        """
        candidates = self._candidates(name, place, collections)
        found = next((one for one in candidates if one.folder.is_dir()), None)
        if found is None:
            folders = dict.fromkeys(str(one.folder) for one in candidates)
            raise place.error(f"there is no role {name}", hint=f"looked for: {', '.join(folders)}")
        return found

    def has(self, name: str, place: Place, collections: Sequence[str]) -> bool:
        """Whether there is such a role."""
        return any(one.folder.is_dir() for one in self._candidates(name, place, collections))

    def _candidates(self, name: str, place: Place, collections: Sequence[str]) -> list[FoundRole]:
        folders = [*self._folders]
        # A role may stand beside the role that needs it.
        folders.insert(1, Path(place.path).parent.parent.parent)
        in_folders = [FoundRole(name, folder / name) for folder in folders]
        return [*self._in_collections(name, collections), *in_folders]

    def _in_collections(self, name: str, collections: Sequence[str]) -> list[FoundRole]:
        """Where a role of a collection may be: NAMESPACE.COLLECTION.ROLE, or short."""
        parts = name.split(".")
        if "/" in name or not all(parts):
            return []
        if len(parts) > 2:
            collections, parts = [".".join(parts[:2])], parts[2:]
        return [
            FoundRole(
                f"{one}.{parts[-1]}",
                root.joinpath(_IN_COLLECTIONS, *one.split("."), "roles", *parts),
                one,
            )
            for one in collections
            for root in self._collections
        ]

    def load(self, found: FoundRole, arguments: AnyMapping[str, Any], place: Place) -> LoadedRole:
        """A role's files.

        Raises:
            PlaybookError: It has none, or they are wrong.
        """
        name, folder = found.name, found.folder

        def wanted(kind: str) -> str:
            return str(arguments.get(f"{kind}_from") or "main")

        def path_of(kind: str) -> Path | None:
            path = self._file(folder / kind, wanted(kind))
            if path is None and wanted(kind) != "main":
                raise place.error(f"the role {name} has no {kind}/{wanted(kind)}")
            return path

        def variables_of(kind: str) -> AnyMapping[str, Any]:
            return self._variables(_within(folder / kind / wanted(kind)) or [path_of(kind)])

        meta = self._meta(folder)
        more = keywords.to_collections(meta.get("collections"), Place(str(folder / "meta"), 1, 1))
        return LoadedRole(
            found,
            tasks=self._content(path_of("tasks")),
            handlers=self._content(path_of("handlers")),
            defaults=variables_of("defaults"),
            vars=variables_of("vars"),
            dependencies=tuple(meta.get("dependencies") or ()),
            checks=self._checks(name, folder, wanted("tasks")),
            collections=(*found.beside, *more),
        )

    def allows_duplicates(self, found: FoundRole) -> bool:
        """Whether the role's meta says that it may run more than once."""
        return bool(self._meta(found.folder).get("allow_duplicates", False))

    def _checks(self, name: str, folder: Path, entry: str) -> Items | None:
        """The task that a role begins with which says what its arguments are."""
        path = self._file(folder / "meta", "argument_specs")
        content = self._files.read(path) if path else self._meta(folder)
        specs = content.get("argument_specs") if isinstance(content, Mapping) else None
        spec = specs.get(entry) if isinstance(specs, Mapping) else None
        if not isinstance(spec, Mapping):
            return None
        place = spec.place
        title = f"Validating arguments against arg spec '{entry}'"
        if spec.get("short_description"):
            title += f" - {spec['short_description']}"
        told = Mapping(place)
        told["argument_spec"] = spec.get("options") or Mapping(place)
        told["validate_args_context"] = {
            "type": "role", "name": name, "argument_spec_name": entry, "path": str(folder),
        }  # fmt: skip
        task, tasks = Mapping(place), Items(place)
        task.update({"name": title, "validate_argument_spec": told, "tags": "always"})
        tasks.append(task)
        tasks.places.append(place)
        return tasks

    def _meta(self, folder: Path) -> AnyMapping[str, Any]:
        path = self._file(folder / "meta", "main")
        content = self._content(path)
        return content if isinstance(content, Mapping) else {}

    def _file(self, folder: Path, name: str) -> Path | None:
        paths = [folder / f"{name}{extension}" for extension in _EXTENSIONS]
        return next((path for path in paths if path.is_file()), None)

    def _content(self, path: Path | None) -> Any:
        return None if path is None else self._files.read(path)

    def _variables(self, paths: Sequence[Path | None]) -> AnyMapping[str, Any]:
        values: dict[str, Any] = {}
        for path in paths:
            if path is not None:
                values.update(self._files.read_variables(path))
        return values


def _within(folder: Path) -> list[Path]:
    """Where variables are not in a file of a name, but in all files of a folder of that name."""
    return sorted(path for path in folder.rglob("*") if path.suffix in _OF_VARIABLES)
