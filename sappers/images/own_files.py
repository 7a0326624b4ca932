"""A definition's own files: those beside it that it names, and what they become in a guest."""

from __future__ import annotations

import posixpath
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from sappers.errors import ImagePartError
from sappers.images.definition import ImageDefinition


class OwnFile(msgspec.Struct, frozen=True):
    """One file, folder or link.

    Attributes:
        place: Where it goes below /app.
        source: Where it lies beside the definition.
        target: Where it leads, for a link to a folder; a link to a file becomes that file.
    """

    place: str
    source: Path
    target: str = ""

    @property
    def executable(self) -> bool:
        """Whether its owner may run it."""
        return bool(self.source.stat().st_mode & stat.S_IXUSR)

    def digested(self) -> bytes:
        """All of it that goes into an image."""
        if self.target:
            return f"{self.place}\0-> {self.target}".encode()
        if self.source.is_dir():
            return f"{self.place}/".encode()
        return f"{self.place}\0{self.executable}\0".encode() + self.source.read_bytes()


def own_files(definition: ImageDefinition, folder: Path) -> list[OwnFile]:
    """All that the definition names beside itself, sorted, folders before what is in them.

    Raises:
        ImagePartError: A link leads elsewhere, or something is neither file, folder nor link.
    """
    program = definition.program
    found: dict[str, OwnFile] = {}
    for name in (*program.files, program.script, program.binary):
        if name is not None:
            found |= {one.place: one for one in _named(folder / name, folder)}
    links = [one for one in found.values() if one.target]
    for link in links:
        place = posixpath.normpath(posixpath.join(posixpath.dirname(link.place), link.target))
        aim = found.get(place)
        if aim is None or aim.source.resolve() != link.source.resolve():
            raise _refused(link.source, "is a link to a folder that `files` does not name")
    below = tuple(f"{link.place}/" for link in links)  # it is there, by the link
    return sorted(
        (one for one in found.values() if not one.place.startswith(below)),
        key=lambda one: one.place,
    )


def copy_files(files: Iterable[OwnFile], target: Path) -> None:
    """Lay files into a folder, as they are in a guest's /app."""
    target.mkdir(parents=True)
    for one in files:
        place = target / one.place
        place.parent.mkdir(parents=True, exist_ok=True)
        if one.target:
            place.symlink_to(one.target)
        elif one.source.is_dir():
            place.mkdir(exist_ok=True)
        else:
            shutil.copyfile(one.source, place)
            place.chmod(0o755 if one.executable else 0o644)


def _named(path: Path, folder: Path) -> Iterator[OwnFile]:
    """What the definition names, and all that is in it."""
    place = str(path.relative_to(folder))
    yield OwnFile(place, _checked(path, folder))
    for inside in sorted(path.rglob("*")) if path.is_dir() else ():
        place = str(inside.relative_to(folder))
        if "__pycache__" in place.split("/"):
            continue
        is_link = _checked(inside, folder).is_dir() and inside.is_symlink()
        yield OwnFile(place, inside, str(inside.readlink()) if is_link else "")


def _checked(path: Path, folder: Path) -> Path:
    """The path itself."""
    if not path.is_file() and not path.is_dir():
        if path.is_symlink():
            raise _refused(path, "is a link to nothing")
        raise _refused(path, "is neither a file nor a folder")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _refused(path, "is a link that leads out of the definition's folder")
    return path


def _refused(path: Path, why: str) -> ImagePartError:
    return ImagePartError(f"{path} {why}", key="application.files")
