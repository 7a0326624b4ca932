"""What a definition's application becomes in a Linux guest: files, and how the sidecar runs it."""

from __future__ import annotations

import contextlib
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from sappers.errors import ImagePartError
from sappers.images.archive import Entry, file_entry, tree_entries
from sappers.images.builder import Report
from sappers.images.container_process import (
    CONTAINER_ROOT,
    SEARCHED,
    container_launch,
    program_places,
)
from sappers.images.definition import ImageDefinition
from sappers.images.definition_errors import named_at
from sappers.images.elf import LibraryMissing, libraries_of, read_program
from sappers.images.entry_point import check_entry_point
from sappers.images.oci import ContainerImage, open_container
from sappers.images.own_files import copy_files, own_files
from sappers.images.own_modules import own_modules, own_packages
from sappers.images.parts import Parts, Versions
from sappers.images.preload import preload_of
from sappers.images.python_root import LIBRARY, SITE, GuestPython, unpack_wheel
from sappers.images.tree import Folder, Inode, Tree

USER_ID = 1000
APP = "app"
CARRIED = "carried"  # the folder, below `work`, of wheels and of modules of Sappers
MERGED = ("bin", "lib", "lib64", "sbin")  # links into /usr
_PACKAGED_MODULES = "usr/lib/python3/dist-packages"
_LEFT_OUT = frozenset(
    f"usr/share/{name}" for name in ("bug", "doc", "doc-base", "info", "lintian", "locale", "man")
)


class Filled(msgspec.Struct, frozen=True):
    """An application, ready to be laid into a root.

    Attributes:
        stable: Files that others made (packages, a container), which seldom change.
        own: The definition's own files.
        name: What the sidecar runs: a module, or a path.
        launch: How it runs it; `sidecar.settings.Launch`.
        module_folders: Where Python looks for the application's modules, in the guest.
        port: What it listens on, or None.
    """

    stable: list[Entry]
    own: list[Entry]
    name: str
    launch: dict[str, Any]
    environment: dict[str, str] = {}
    preload: tuple[str, ...] = ()
    module_folders: tuple[str, ...] = ()
    port: int | None = None


class Application:
    """Turns one definition's application into files.

    Args:
        definition: Read and checked.
        folder: Where its files are.
        parts: For packages.
        versions: Which packages.
        report: Told what is going on.
    """

    def __init__(
        self,
        definition: ImageDefinition,
        folder: Path,
        parts: Parts,
        versions: Versions,
        report: Report,
    ) -> None:
        self._definition = definition
        self._program = definition.program
        self._folder = folder
        self._parts = parts
        self._versions = versions
        self._report = report

    def fill(self, root: Path, base: frozenset[str], work: Path) -> Filled:
        """The application's files.

        Args:
            root: The sidecar's Python root.
            base: Paths that the guest's root has without the application.
            work: An empty folder that lives until the image is packed.

        Raises:
            ImageError: The application lacks something.
        """
        if self._program.container is not None:
            return self._container(work)
        tree = self._packages(work / "packages")
        if self._program.module is not None or self._program.script is not None:
            return self._python(root, base, tree, work)
        return self._elf(base, tree, work)

    def _python(self, root: Path, base: frozenset[str], tree: Tree, work: Path) -> Filled:
        program, files = self._program, work / "new" / APP
        copy_files(own_files(self._definition, self._folder), files)
        check_entry_point(program, files)
        python = GuestPython(root)
        own = _own_modules(files)
        main = program.module or (program.script or "").removesuffix(".py").replace("/", ".")
        library = root / LIBRARY
        preload = preload_of(main, own, (library, library / "lib-dynload", root / SITE))
        with named_at(f"application.{'script' if program.module is None else 'files'}"):
            python.compile(files, f"/{APP}", optimise=0)
        packaged = tree.find(_PACKAGED_MODULES) is not None
        carried = self._carry(root, work / CARRIED)
        if program.module is not None:
            name, kind = program.module, "module"
            _check_module(python, name, files)
        else:
            assert program.script is not None
            compiled = program.script.endswith(".py")
            name, kind = f"/{APP}/{program.script}{'c' if compiled else ''}", "script"
        return Filled(
            stable=[*_new_in(base, tree), *carried],
            own=tree_entries(work / "new"),
            name=name,
            launch={
                "kind": kind,
                "arguments": program.arguments,
                **({"prepare": program.prepare} if program.prepare else {}),
            },
            preload=preload,
            module_folders=(f"/{_PACKAGED_MODULES}",) if packaged else (),
            port=self._definition.port,
        )

    def _carry(self, root: Path, folder: Path) -> list[Entry]:
        """Wheels and modules of Sappers, where the guest's Python finds them.

        Not among what a checkpoint holds: a library may draw random numbers when it is imported,
        from a generator that cannot be given a new seed.
        """
        program = self._program
        if not program.wheels and not program.sappers_modules:
            return []
        python, site = GuestPython(root), folder / SITE
        site.mkdir(parents=True)
        if self._versions.wheels:
            self._report("fetching wheels")
            for wheel in self._parts.wheels(self._versions.wheels):
                unpack_wheel(wheel, site)
        for name, source in own_modules(program.sappers_modules):
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, site / name)
        python.compile(site, f"/{SITE}")
        for name, source in own_packages(program.sappers_modules):
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, site / name)
        folders = [str(site), str(root / SITE)]
        modules = ", ".join(("sys", *program.sappers_modules))
        python.run("-BIS", "-c", f"import sys; sys.path += {folders!r}\nimport {modules}")
        return tree_entries(folder)

    def _elf(self, base: frozenset[str], tree: Tree, work: Path) -> Filled:
        program, files = self._program, work / "new" / APP
        copy_files(own_files(self._definition, self._folder), files)
        stable = _new_in(base, tree)
        if program.binary is not None:
            name, arguments = f"/{APP}/{program.binary}", program.arguments
            (files / program.binary).chmod(0o755)
            content = (files / program.binary).read_bytes()
            with named_at("application.binary"):
                stable += self._libraries(content, program.binary, base, tree, work)
        else:
            assert program.command is not None
            arguments = program.command[1:]
            name = _find_program(tree, program.command[0], files)
            stable = [_writable(entry) for entry in stable]
        return Filled(
            stable=stable,
            own=tree_entries(work / "new"),
            name=name,
            launch={"kind": "program", "arguments": arguments},
            environment={"PATH": SEARCHED},
            port=self._definition.port,
        )

    def _container(self, work: Path) -> Filled:
        spool = work / "container"
        spool.mkdir()
        packed = self._folder / str(self._program.container)
        with named_at("application.container"), open_container(packed) as image:
            tree = Tree(spool, image.name)
            for step in image.unpack(tree):
                self._report(step)
            for path in tree.dropped_capabilities:
                self._report(f"{path} loses its file capabilities")
            return self._contained(image, tree, work)

    def _contained(self, image: ContainerImage, tree: Tree, work: Path) -> Filled:
        launch = container_launch(image, tree, self._definition)
        files = work / "new"
        copy_files(own_files(self._definition, self._folder), files / APP)
        root = tree.root
        prefix = f"{CONTAINER_ROOT}/"
        return Filled(
            stable=[
                Entry(CONTAINER_ROOT, root.mode, user_id=root.user_id, group_id=root.group_id),
                *(
                    msgspec.structs.replace(entry, path=prefix + entry.path)
                    for entry in tree.entries()
                ),
            ],
            own=tree_entries(files, prefix) if self._program.files else [],
            name=launch.program,
            launch={
                "kind": "program",
                "arguments": launch.arguments,
                "root": f"/{CONTAINER_ROOT}",
                "folder": launch.folder,
                "user_id": launch.user_id,
                "group_id": launch.group_id,
                "groups": launch.groups,
            },
            environment=launch.environment,
            port=launch.port,
        )

    def _packages(self, spool: Path) -> Tree:
        """The definition's packages, laid out as on a Debian with a merged /usr."""
        spool.mkdir()
        tree = Tree(spool, "a Debian package")
        for name in MERGED:
            tree.put(f"usr/{name}", Folder())
            tree.put(name, Inode(stat.S_IFLNK | 0o777, f"usr/{name}".encode()))
        if self._versions.application:
            self._parts.unpack(self._versions.application, tree, self._report)
        return tree

    def _libraries(
        self, content: bytes, name: str, base: frozenset[str], tree: Tree, work: Path
    ) -> list[Entry]:
        """What a program needs beyond the base and its packages, from the sidecar's packages."""
        program = read_program(content, name)
        if not program.interpreter and not program.needed:
            return []
        (work / "spare").mkdir()
        spare = Tree(work / "spare", "a Debian package")
        for merged in MERGED:
            spare.put(f"usr/{merged}", Folder())
            spare.put(merged, Inode(stat.S_IFLNK | 0o777, f"usr/{merged}".encode()))
        self._parts.unpack(self._versions.python, spare, self._report)
        below = f"{APP}/"

        def read(path: str) -> bytes | None:
            if path.startswith(below):
                copied = work / "new" / path
                return copied.read_bytes() if copied.is_file() else None
            for place in (tree, spare):
                if (found := place.read(path, limit_bytes=-1)) is not None:
                    return found
            return None

        try:
            found = libraries_of(content, f"{APP}/{name}", read)
        except LibraryMissing as error:
            for place in (one.removeprefix(below) for one in error.places if one.startswith(below)):
                if (self._folder / place).is_file():
                    raise ImagePartError(
                        f"{name} needs {place}, which `files` does not name",
                        key="application.binary",
                        hint=f'it lies beside image.toml: files = ["{place}"]',
                    ) from error
            raise
        missing = {merged_path(path) for path in found} - base
        return [
            file_entry(path, library, executable=True)
            for path in sorted(missing)
            if not path.startswith(below)
            and tree.find(path) is None
            and (library := spare.read(path, limit_bytes=-1)) is not None
        ]


def inputs_of(definition: ImageDefinition, folder: Path) -> Iterator[bytes]:
    """All that the definition's own files put into the image, for its digest."""
    yield from (one.digested() for one in own_files(definition, folder))
    named = definition.program.sappers_modules
    for label, path in (*own_modules(named), *own_packages(named)):
        yield f"{label}\0".encode() + path.read_bytes()
    if (container := definition.program.container) is not None:
        with named_at("application.container"), open_container(folder / container) as image:
            yield from (each.encode() for each in image.inputs)


def merged_path(path: str) -> str:
    """Where a path is once /bin, /lib, /lib64 and /sbin are links into /usr."""
    return f"usr/{path}" if path.split("/")[0] in MERGED else path


def merged_entries(entries: list[Entry]) -> list[Entry]:
    """The same files with /usr merged, without the folders that become links."""
    return [
        msgspec.structs.replace(entry, path=merged_path(entry.path))
        for entry in entries
        if entry.path not in MERGED
    ]


def _find_program(tree: Tree, name: str, files: Path) -> str:
    """The path in the guest of a program of the packages, or of the definition's own files.

    Raises:
        ImagePartError: It is nowhere.
    """
    places = program_places(name, SEARCHED, f"/{APP}")
    below = f"/{APP}/"
    own = [one for one in places if one.startswith(below)]
    own = [one for one in own if (files / one.removeprefix(below)).is_file()]
    program = tree.first_file(places) or next(iter(own), None)
    if program is None:
        raise ImagePartError(
            f"no file of the image is the program {name}",
            key="application.command",
            hint="add the Debian package that has it to `packages`",
        )
    return program


def _new_in(base: frozenset[str], tree: Tree) -> list[Entry]:
    """What the packages bring that the base lacks, so that all images share the base."""
    return [
        entry
        for entry in tree.entries(lambda path: path not in _LEFT_OUT)
        if entry.path not in base or stat.S_ISDIR(entry.mode)
    ]


def _writable(entry: Entry) -> Entry:
    """Below /var and /run everything is the application's: no script made it a user."""
    if entry.path.split("/")[0] not in ("var", "run"):
        return entry
    return msgspec.structs.replace(entry, user_id=USER_ID, group_id=USER_ID)


def _own_modules(files: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in files.rglob("*.py"):
        name = str(path.relative_to(files).with_suffix("")).replace("/", ".")
        with contextlib.suppress(UnicodeDecodeError):
            found[name.removesuffix(".__init__")] = path.read_text("utf-8")
    return found


def _check_module(python: GuestPython, module: str, files: Path) -> None:
    """Ask the guest's Python whether the application's module is there.

    Raises:
        ImagePartError: It is not.
    """
    looks = (
        f"import sys, importlib.util; sys.path.append({str(files)!r})\n"
        f"try: print(importlib.util.find_spec({module!r}) is not None)\n"
        f"except ModuleNotFoundError: print(False)\n"
    )
    if python.run("-BIS", "-c", looks).strip() == "False":
        raise ImagePartError(
            f"the application has no module {module}",
            key="application.module",
            hint="`files` name what it is made of, beside image.toml",
        )
