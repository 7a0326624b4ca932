"""Finds roles and reads their files: tasks, handlers, defaults, vars and meta."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sappers.provisioner.playbook.language.files import PlaybookFiles
from sappers.provisioner.source import Items, Mapping, Place

_EXTENSIONS = (".yml", ".yaml", "")
_OF_VARIABLES = (".yml", ".yaml", ".json")
COLLECTIONS = ("~/.ansible/collections", "/usr/share/ansible/collections")
SYSTEM_FOLDERS = ("~/.ansible/roles", "/usr/share/ansible/roles", "/etc/ansible/roles")


@dataclass(frozen=True)
class LoadedRole:
    """What the files of a role say; `checks` begins with its arguments' specification, if any."""

    name: str
    folder: Path
    tasks: Any = None
    handlers: Any = None
    defaults: AnyMapping[str, Any] = field(default_factory=dict)
    vars: AnyMapping[str, Any] = field(default_factory=dict)
    dependencies: tuple[Any, ...] = ()
    checks: Any = None


class RoleFiles:
    """Roles as a playbook in a folder finds them."""

    def __init__(self, folder: Path, files: PlaybookFiles, more: Sequence[Path] = ()) -> None:
        system = (Path(one).expanduser() for one in SYSTEM_FOLDERS)
        self._folders = [folder / "roles", *more, *system, folder]
        collections = (Path(one).expanduser() for one in COLLECTIONS)
        self._collections = [folder / "collections", *collections]
        self._files = files

    def find(self, name: str, place: Place) -> Path:
        """A role's folder.

        Raises:
            PlaybookError: There is none such.
        """
        candidates = self._candidates(name, place)
        found = next((one for one in candidates if one.is_dir()), None)
        if found is None:
            raise place.error(
                f"there is no role {name}", hint=f"looked for: {', '.join(map(str, candidates))}"
            )
        return found

    def has(self, name: str, place: Place) -> bool:
        """Whether there is such a role."""
        return any(one.is_dir() for one in self._candidates(name, place))

    def _candidates(self, name: str, place: Place) -> list[Path]:
        candidates = [folder / name for folder in self._folders]
        # A role may stand beside the role that needs it.
        candidates.insert(1, Path(place.path).parent.parent.parent / name)
        return candidates + self._in_collections(name)

    def _in_collections(self, name: str) -> list[Path]:
        """Where a role is that is named with its collection: NAMESPACE.COLLECTION.ROLE."""
        namespace, _, rest = name.partition(".")
        collection, _, role = rest.partition(".")
        below = Path("ansible_collections", namespace, collection, "roles", *role.split("."))
        return [one / below for one in self._collections] if role else []

    def load(self, name: str, arguments: AnyMapping[str, Any], place: Place) -> LoadedRole:
        """A role's files.

        Raises:
            PlaybookError: It has none, or they are wrong.
        """
        folder = self.find(name, place)

        def wanted(kind: str) -> str:
            return str(arguments.get(f"{kind}_from") or "main")

        def path_of(kind: str) -> Path | None:
            path = self._file(folder / kind, wanted(kind))
            if path is None and wanted(kind) != "main":
                raise place.error(f"the role {name} has no {kind}/{wanted(kind)}")
            return path

        def variables_of(kind: str) -> AnyMapping[str, Any]:
            return self._variables(_within(folder / kind / wanted(kind)) or [path_of(kind)])

        return LoadedRole(
            name=name,
            folder=folder,
            tasks=self._content(path_of("tasks")),
            handlers=self._content(path_of("handlers")),
            defaults=variables_of("defaults"),
            vars=variables_of("vars"),
            dependencies=tuple(self._meta(folder).get("dependencies") or ()),
            checks=self._checks(name, folder, wanted("tasks")),
        )

    def allows_duplicates(self, name: str, place: Place) -> bool:
        """Whether the role's meta says that it may run more than once."""
        return bool(self._meta(self.find(name, place)).get("allow_duplicates", False))

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
