"""What modules get of the control machine: files, rendered templates, conditions."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sappers.provisioner.playbook.language.model import Task
from sappers.provisioner.playbook.tasks.argument_specs import problems_of
from sappers.provisioner.playbook.tasks.variables import Scope
from sappers.provisioner.playbook.tasks.ways import Way
from sappers.provisioner.playbook.templates.origin import origin_of
from sappers.provisioner.playbook.templates.search_path import candidates
from sappers.provisioner.playbook.templates.values import MISSING, UndefinedVariable
from sappers.provisioner.source import Decrypt, Place, place_of

VAULT_HEADER = b"$ANSIBLE_VAULT"
_CHUNK_BYTES = 1024 * 1024


class ControlMissing(Exception):
    """What a task needs of the control machine is not there, or wrong."""


class Control:
    """For one task on one host; collects the contents that the task may have to send.

    Attributes:
        is_local: The host is this machine.
    """

    def __init__(
        self, task: Task, scope: Scope, way: Way, verbosity: int, decrypt: Decrypt | None = None
    ) -> None:
        self._task = task
        self._scope = scope
        self._decrypt = decrypt
        self.verbosity = verbosity
        self.is_local = way.is_local
        self.blobs: dict[str, bytes | Path] = {}

    def find(self, name: str, kind: str) -> str:
        """The path of a file: in the `files` or `templates` of the role, then of the playbook.

        Raises:
            ControlMissing: There is none.
        """
        paths = candidates(name, kind, self._task.inherited.folders)
        found = next((one for one in paths if one.exists()), None)
        if found is None:
            looked = ", ".join(map(str, paths))
            raise ControlMissing(f"there is no {name} here; looked for: {looked}")
        return str(found)

    def destination(self, name: str, text: str) -> str:
        """The path here that an argument means, absolute; a slash at its end stays.

        Raises:
            ControlMissing: What a template yields, which a host may have said, leads elsewhere.
        """
        written = str(self._task.arguments.get(name, ""))
        if text.split("/").count("..") > written.split("/").count(".."):
            raise ControlMissing(f"{name}: what a template yields leads to another folder: {text}")
        path = str(self._task.inherited.folders[-1].absolute() / Path(text).expanduser())
        return path + "/" if text.endswith("/") else path

    def variable(self, name: str) -> Any:
        """A variable, rendered; None where there is none."""
        found = self._scope.find(name)
        return None if found is MISSING else found

    def is_variable(self, name: str) -> bool:
        """Whether there is such a variable."""
        return self._scope.find(name) is not MISSING

    def argument_problems(self, options: Any, values: Mapping[str, Any]) -> list[str]:
        """What is wrong with a role's arguments."""
        return problems_of(options, values)

    def is_folder(self, path: str) -> bool:
        """Whether it is a folder."""
        return Path(path).is_dir()

    def mode(self, path: str) -> int:
        """Its permissions."""
        return stat.S_IMODE(Path(path).stat().st_mode)

    def blob(self, content: bytes) -> dict[str, Any]:
        """A content to send, as the fields of `step.Blob`."""
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        return {"sha256": digest, "sha1": sha1, "size": len(content)}

    def blob_of(self, path: str, decrypt: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002
        """A file's content to send; what is encrypted with Vault is opened."""
        file = Path(path)
        sha256, sha1 = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
        try:
            with file.open("rb") as opened:
                head = opened.read(len(VAULT_HEADER))
                if decrypt and head == VAULT_HEADER:
                    return self.blob(self._opened(file))
                opened.seek(0)
                while chunk := opened.read(_CHUNK_BYTES):
                    sha256.update(chunk)
                    sha1.update(chunk)
        except OSError as error:
            raise ControlMissing(f"{path} cannot be read: {error.strerror}") from error
        digest = sha256.hexdigest()
        self.blobs[digest] = file
        return {"sha256": digest, "sha1": sha1.hexdigest(), "size": file.stat().st_size}

    def _opened(self, file: Path) -> bytes:
        if self._decrypt is None:
            raise ControlMissing(f"{file} is encrypted with Vault, and no password is given")
        try:
            return self._decrypt(file.read_text()).encode()
        except ValueError as error:
            raise ControlMissing(f"{file} cannot be decrypted: {error}") from error

    def text(self, path: str) -> str:
        """A file's text; what is encrypted with Vault is opened.

        Raises:
            ControlMissing: It cannot be read.
        """
        try:
            content = Path(path).read_bytes()
            opened = self._opened(Path(path)) if content.startswith(VAULT_HEADER) else content
            return opened.decode()
        except (OSError, UnicodeDecodeError) as error:
            raise ControlMissing(f"{path} cannot be read: {error}") from error

    def tree(self, folder: str, prefix: str, *, follow: bool) -> list[dict[str, Any]]:
        """All folders, files and links below a folder, as `copy` sends them.

        Args:
            follow: Of links what they point to is sent, but of those that lead nowhere or back to
                a folder they are in.
        """
        entries: list[dict[str, Any]] = []
        if prefix:
            entries.append(_entry(prefix.rstrip("/")))
        self._walk(Path(folder), prefix, (), entries, follow=follow)
        return entries

    def _walk(
        self, folder: Path, prefix: str, above: tuple[Path, ...], entries: list[dict[str, Any]],
        *, follow: bool,
    ) -> None:  # fmt: skip
        above = (*above, folder.resolve())
        for path in sorted(folder.iterdir()):
            name = prefix + path.name
            leads_on = follow and path.exists() and path.resolve() not in above
            if path.is_symlink() and not leads_on:
                entries.append(_entry(name, target=str(path.readlink())))
            elif path.is_dir():
                entries.append(_entry(name))
                self._walk(path, name + "/", above, entries, follow=follow)
            elif path.is_file():
                mode = f"{self.mode(str(path)):04o}"
                entries.append(_entry(name, blob=self.blob_of(str(path)), mode=mode))

    def render(self, path: str, settings: Mapping[str, Any], written: str, dest: str) -> str:
        """A template file's text, which is told how its task names it and where it goes.

        Raises:
            PlaybookError: It is wrong, or a variable undefined.
        """
        content = self.text(path)
        is_set = "ansible_managed" in self._scope.names()
        managed = None if is_set else self._scope.templates.managed
        try:
            own = origin_of(Path(path), written, dest, managed)
        except ValueError as error:
            raise Place(path).error(str(error)) from error
        scope = self._scope.under(own)
        return self._scope.templates.render_file(
            content, scope, Place(path), settings, self._scope.folders
        )

    def to_json(self, value: Any) -> str:
        """A mapping or list as the text that `copy` writes for it."""
        return json.dumps(value)

    def holds(self, condition: Any) -> bool:
        """Whether a condition holds."""
        return self._scope.templates.holds(condition, self._scope, self._task.place)

    def evaluate_or_say(self, expression: Any) -> Any:
        """An expression's value, or a text that says that it is undefined.

        Raises:
            PlaybookError: It is wrong, or no text.
        """
        place = place_of(expression, self._task.place)
        if isinstance(expression, dict | list):
            hint = "the name of a variable; for other things there is `msg`"
            raise place.error("`var` takes an expression", hint=hint)
        try:
            return self._scope.templates.evaluate(expression, self._scope, place)
        except UndefinedVariable:
            return "VARIABLE IS NOT DEFINED!"


def _entry(
    path: str, *, blob: Any = None, mode: str | None = None, target: str | None = None
) -> dict[str, Any]:
    """What is at a path of a tree: a folder, unless it has a content or points somewhere."""
    return {"path": path, "blob": blob, "mode": mode, "target": target}
