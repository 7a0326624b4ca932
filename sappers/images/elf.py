"""What an ELF program needs to run, read from the program and from the libraries it names."""

from __future__ import annotations

import posixpath
import subprocess
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

from sappers.errors import ImageError

LIBRARY_FOLDERS = (
    # Where Debian's loader looks without being told.
    *("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib", "usr/lib"),
)

_DAMAGED = (ELFError, ValueError, LookupError, OverflowError, AttributeError, AssertionError)
"""What elftools raises of a file that is damaged, or made to break whoever reads it."""


class Program(msgspec.Struct, frozen=True):
    """An ELF file.

    Attributes:
        interpreter: Path of the loader that starts it, or empty when it needs none.
        needed: Names of the libraries it is linked with.
        folders: Where it says they are, `$ORIGIN` meaning its own folder.
    """

    interpreter: str
    needed: tuple[str, ...]
    folders: tuple[str, ...]


class LibraryMissing(ImageError):
    """A program needs a library that is not there.

    Attributes:
        places: Paths in the guest where its loader looks, relative, in this order.
    """

    def __init__(self, message: str, *, places: Sequence[str], hint: str) -> None:
        super().__init__(message, hint=hint)
        self.places = places


def read_program(content: bytes, name: str) -> Program:
    """Read an ELF program or library.

    Raises:
        ImageError: It is none for x86-64.
    """
    try:
        elf = ELFFile(BytesIO(content))
        if elf.get_machine_arch() != "x64":
            raise ImageError(f"{name} is for {elf.get_machine_arch()}, not for x86-64")
        interpreter, needed, folders = "", [], ""
        segment: Any  # elftools types what all segments have
        for segment in elf.iter_segments():
            if segment.header.p_type == "PT_INTERP":
                interpreter = segment.get_interp_name()
            if not isinstance(segment, DynamicSegment):  # sections are for debuggers, not loaders
                continue
            tag: Any
            for tag in segment.iter_tags():
                if tag.entry.d_tag == "DT_NEEDED":
                    needed.append(tag.needed)
                elif tag.entry.d_tag in ("DT_RUNPATH", "DT_RPATH"):
                    folders = getattr(tag, tag.entry.d_tag[3:].lower())
    except _DAMAGED as error:
        raise ImageError(f"{name} is no ELF program: {error or 'it has no ELF header'}") from error
    return Program(interpreter, tuple(needed), tuple(filter(None, folders.split(":"))))


def libraries_of(content: bytes, path: str, read: Callable[[str], bytes | None]) -> tuple[str, ...]:
    """Every file that a program needs: its loader and all libraries, theirs as well.

    Args:
        content: The program.
        path: Where it is in the guest, relative.
        read: A file's content by its path in the guest, or None when it is not there.

    Raises:
        LibraryMissing: One is in no package; the hint names a package that may have it.
    """
    found: dict[str, str] = {}
    todo = [(path, content)]
    while todo:
        user, text = todo.pop()
        program = read_program(text, posixpath.basename(user))
        folders = [_folder(each, user) for each in program.folders] + list(LIBRARY_FOLDERS)
        wanted = [(name, [f"{folder}/{name}" for folder in folders]) for name in program.needed]
        if program.interpreter:
            wanted.append((program.interpreter, [program.interpreter.lstrip("/")]))
        for name, places in wanted:
            if name in found:
                continue
            for place in places:
                if (library := read(place)) is not None:
                    found[name] = place
                    todo.append((place, library))
                    break
            else:
                raise _missing(name, posixpath.basename(user), places)
    return tuple(sorted(set(found.values())))


def _folder(folder: str, user: str) -> str:
    own = posixpath.dirname(user)
    place = folder.replace("$ORIGIN", own).replace("${ORIGIN}", own)
    return posixpath.normpath(place).lstrip("/")


def _missing(name: str, user: str, places: Sequence[str]) -> LibraryMissing:
    package = _package_with(Path(name).name)
    return LibraryMissing(
        f"{user} needs {name}, which no package of the image has",
        places=places,
        hint=f'add it to the application: packages = ["{package}"]'
        if package
        else f"find the Debian package with {Path(name).name} and add it to `packages`",
    )


def package_names(library: str) -> tuple[str, ...]:
    """What Debian calls the package of a library: `libpq.so.5` is in `libpq5`."""
    if library.startswith("ld-musl"):
        return ("musl",)
    stem, _, version = library.partition(".so")
    version = version.lstrip(".")
    if not version and "-" in stem:  # libdb-5.3.so
        stem, _, version = stem.rpartition("-")
    base = stem.lower().replace("_", "-")
    dash = "-" if base[-1:].isdigit() else ""
    names = (f"{base}{dash}{version}", f"{base}-{version}", base)
    return tuple(dict.fromkeys(name.rstrip("-") for name in names))


def _package_with(library: str) -> str | None:
    """The package of that name that apt knows, or None."""
    for name in package_names(library):
        try:
            done = subprocess.run(
                ["apt-cache", "show", "--no-all-versions", name], capture_output=True, check=False
            )
        except FileNotFoundError:
            return None
        if done.returncode == 0 and done.stdout:
            return name
    return None
