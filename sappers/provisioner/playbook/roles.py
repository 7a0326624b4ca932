"""Finds roles and reads their files: tasks, handlers, defaults, vars and meta."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sappers.provisioner.source import Decrypt, Mapping, Place, read_file

_EXTENSIONS = (".yml", ".yaml", "")
SYSTEM_FOLDERS = ("~/.ansible/roles", "/usr/share/ansible/roles", "/etc/ansible/roles")


@dataclass(frozen=True)
class LoadedRole:
    """What the files of a role say."""

    name: str
    folder: Path
    tasks: Any = None
    handlers: Any = None
    defaults: AnyMapping[str, Any] = field(default_factory=dict)
    vars: AnyMapping[str, Any] = field(default_factory=dict)
    dependencies: tuple[Any, ...] = ()


class RoleFiles:
    """Roles as a playbook in a folder finds them."""

    def __init__(self, folder: Path, decrypt: Decrypt | None = None) -> None:
        self._folders = [folder / "roles", *(Path(one).expanduser() for one in SYSTEM_FOLDERS)]
        self._folders.append(folder)
        self._decrypt = decrypt

    def find(self, name: str, place: Place) -> Path:
        """A role's folder.

        Raises:
            PlaybookError: There is none such.
        """
        candidates = [folder / name for folder in self._folders]
        # A role may stand beside the role that needs it.
        candidates.insert(1, Path(place.path).parent.parent.parent / name)
        found = next((one for one in candidates if one.is_dir()), None)
        if found is None:
            raise place.error(
                f"there is no role {name}", hint=f"looked for: {', '.join(map(str, candidates))}"
            )
        return found

    def load(self, name: str, arguments: AnyMapping[str, Any], place: Place) -> LoadedRole:
        """A role's files.

        Raises:
            PlaybookError: It has none, or they are wrong.
        """
        folder = self.find(name, place)

        def read(kind: str) -> Any:
            wanted = str(arguments.get(f"{kind}_from") or "main")
            path = self._file(folder / kind, wanted)
            if path is None:
                if wanted != "main":
                    raise place.error(f"the role {name} has no {kind}/{wanted}")
                return None
            return read_file(path, self._decrypt)

        return LoadedRole(
            name=name,
            folder=folder,
            tasks=read("tasks"),
            handlers=read("handlers"),
            defaults=self._variables(read("defaults"), folder / "defaults"),
            vars=self._variables(read("vars"), folder / "vars"),
            dependencies=tuple(self._meta(folder).get("dependencies") or ()),
        )

    def allows_duplicates(self, name: str, place: Place) -> bool:
        """Whether the role's meta says that it may run more than once."""
        return bool(self._meta(self.find(name, place)).get("allow_duplicates", False))

    def _meta(self, folder: Path) -> AnyMapping[str, Any]:
        path = self._file(folder / "meta", "main")
        content = read_file(path, self._decrypt) if path else None
        return content if isinstance(content, Mapping) else {}

    def _file(self, folder: Path, name: str) -> Path | None:
        paths = [folder / f"{name}{extension}" for extension in _EXTENSIONS]
        return next((path for path in paths if path.is_file()), None)

    @staticmethod
    def _variables(content: Any, path: Path) -> AnyMapping[str, Any]:
        if content is not None and not isinstance(content, Mapping):
            raise Place(str(path)).error("expected a mapping of variable names to values")
        return content or {}
