"""Reads the files of playbooks: what stays the same is parsed once."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from pathlib import Path
from typing import Any

import msgspec

from sappers.provisioner.playbook.language.keywords import refuse_variables
from sappers.provisioner.source import Decrypt, Mapping, Place, read_file


class PlaybookFiles:
    """The files that were read so far.

    One that will be included is read ahead, to say what is wrong in it, and once more when it is
    reached, since a task may have written another one.

    Args:
        decrypt: Opens what is encrypted with Vault.
    """

    def __init__(self, decrypt: Decrypt | None = None) -> None:
        self._decrypt = decrypt
        self._read: dict[Path, tuple[tuple[int, int, int], Any]] = {}

    def read(self, path: Path) -> Any:
        """The document of a YAML file, not to be changed. Raises PlaybookError as `read_file`."""
        try:
            found = path.stat()
        except OSError:
            return read_file(path, self._decrypt)  # which says why it cannot be read
        now = found.st_ino, found.st_mtime_ns, found.st_size
        if path not in self._read or self._read[path][0] != now:
            self._read[path] = now, read_file(path, self._decrypt)
        return self._read[path][1]

    def read_variables(self, path: Path) -> AnyMapping[str, Any]:
        """The variables of a file.

        Raises:
            PlaybookError: It has none, or such as are not supported; or as `read`.
        """
        content = self.read(path)
        if content is None:
            return {}
        if not isinstance(content, Mapping):
            raise Place(str(path)).error(f"{path} is no mapping of variable names to values")
        refuse_variables(content)
        return content


class Reading(msgspec.Struct, frozen=True):
    """How files are read, and where roles may be.

    Attributes:
        roles_path: Folders of roles beside the usual ones.
        collections_path: Folders of collections instead of the usual ones.
        extra: The variables of `-e`, which names of what is imported may ask for.
    """

    files: PlaybookFiles
    roles_path: tuple[Path, ...] = ()
    collections_path: tuple[Path, ...] = ()
    extra: AnyMapping[str, Any] = {}
