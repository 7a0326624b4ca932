"""Where tasks, lookups and templates look for files, in Ansible's order."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def search_path(kind: str, folders: Iterable[Path]) -> list[Path]:
    """The folders that files of a kind may be in.

    Args:
        kind: `files`, `templates` or `vars`: the folder in each that is looked into first.
        folders: Those of a task: of its roles, of its file, of the playbook.
    """
    return [one for folder in folders for one in (folder / kind, folder)]


def candidates(name: str, kind: str, folders: Iterable[Path]) -> list[Path]:
    """The paths that a name may mean."""
    path = Path(name).expanduser()
    return [path] if path.is_absolute() else [one / path for one in search_path(kind, folders)]
