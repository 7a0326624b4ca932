"""The Python that guests run on: Debian's 3.11, compiled and trimmed, with the sidecar's wheels."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from sappers.errors import ImageError, ImagePartError
from sappers.images import debian
from sappers.images.programs import run_guarded

PACKAGES = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"),
    *("libc6", "libssl3", "libgcc-s1", "zlib1g", "libexpat1", "libffi8"),
    *("libbz2-1.0", "liblzma5", "libuuid1", "libcrypt1"),
)
WHEELS = ("nats-py",)
INTERPRETER = "usr/bin/python3.11"
LIBRARY = "usr/lib/python3.11"
SITE = f"{LIBRARY}/site-packages"
_LOADER = "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
_LIBRARY_FOLDERS = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
_LEFT_OUT = (
    *("curses", "dbm", "distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data"),
    *("sqlite3", "test", "tkinter", "turtledemo", "venv", "antigravity.py", "turtle.py"),
    *("LICENSE.txt", "EXTERNALLY-MANAGED", "sitecustomize.py"),
    *("lib-dynload/_test*", "lib-dynload/*xx*", "lib-dynload/_ctypes_test*", "config-*"),
    *("lib-dynload/ossaudiodev*", "lib-dynload/audioop*", "lib-dynload/_codecs_*"),
)
_LOADED_LATE = (
    "libgcc_s.so.1",  # pthread_cancel loads it by name, so no list of needed libraries shows it
    # What wheels for an older C library are linked with; it holds what was in them.
    *("libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1", "libutil.so.1"),
)


def build_root(packages: Sequence[Path], wheels: Sequence[Path], work: Path, root: Path) -> None:
    """Make `root` the trimmed Python root, with `work` as scratch.

    Raises:
        ImageError: Something does not unpack, compile or run.
    """
    raw = work / "raw"
    for package in packages:
        debian.unpack(package, raw)
    python = GuestPython(raw)
    library = raw / LIBRARY
    _leave_out(library)
    for wheel in wheels:
        unpack_wheel(wheel, raw / SITE)
    python.compile(library, f"/{LIBRARY}")
    extensions = [path for path in library.rglob("*.so") if python.libraries_of(path) is not None]
    needed = {INTERPRETER, _LOADER}
    for path in (raw / INTERPRETER, *extensions):
        needed.update(python.libraries_of(path) or ())
    needed.update(python.find_library(name) for name in _LOADED_LATE)
    compiled = list(library.rglob("*.pyc"))
    needed.update(str(path.relative_to(raw)) for path in (*extensions, *compiled))
    for name in sorted(needed):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(raw / name, root / name)
    (root / "lib64").mkdir()
    (root / "lib64" / Path(_LOADER).name).symlink_to(f"/{_LOADER}")


def _leave_out(library: Path) -> None:
    for path in [path for pattern in _LEFT_OUT for path in library.glob(pattern)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for cache in list(library.rglob("__pycache__")):
        shutil.rmtree(cache)


def unpack_wheel(wheel: Path, folder: Path) -> None:
    """Lay a wheel's modules into a folder; of what describes it, what it may look for itself.

    Raises:
        ImageError: It is damaged.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if ".dist-info/" not in member or member.endswith(".dist-info/METADATA"):
                    archive.extract(member, folder)
    except zipfile.BadZipFile as error:
        raise ImageError(f"{wheel.name} is damaged") from error


class GuestPython:
    """The guest's own interpreter, run here from its folder: what compiles is what will run."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def run(self, *arguments: str) -> str:
        """Run it isolated; what it printed.

        Raises:
            ImageError: It fails.
        """
        return self._run(str(self._root / INTERPRETER), *arguments)

    def compile(self, folder: Path, becomes: str, *, optimise: int = 2) -> None:
        """Put a `.pyc` beside every module below `folder` and remove the source.

        Args:
            folder: What to compile.
            becomes: Where the folder will be in the guest, for tracebacks.
            optimise: 2 drops docstrings and assertions; 0 keeps both.
        """
        self.run(
            *("-BIS", "-m", "compileall", "-q", "-b", "-f", "-o", str(optimise)),
            *("--invalidation-mode", "unchecked-hash"),
            *("-s", str(folder), "-p", becomes, str(folder)),
        )
        for source in list(folder.rglob("*.py")):
            source.unlink()

    def libraries_of(self, program: Path) -> set[str] | None:
        """Libraries it needs, relative to the root; None when one is not in the root."""
        found = set()
        for name, path in re.findall(r"^\s(\S+) => (.+?)(?: \(|$)", self._list(program), re.M):
            if not path.startswith(str(self._root)):
                return None
            found.add(self.find_library(Path(name).name))
        return found

    def find_library(self, name: str) -> str:
        """Where in the root a library is.

        Raises:
            ImageError: Nowhere.
        """
        for folder in _LIBRARY_FOLDERS:
            if (self._root / folder / name).exists():
                return f"{folder}/{name}"
        raise ImageError(f"no package of the guest's root has {name}")

    def _list(self, program: Path) -> str:
        return self._run("--list", str(program))

    def _run(self, *arguments: str) -> str:
        folders = ":".join(str(self._root / folder) for folder in _LIBRARY_FOLDERS)
        done = subprocess.run(
            [str(self._root / _LOADER), "--inhibit-cache", "--library-path", folders, *arguments],
            env={"PYTHONHOME": str(self._root / "usr"), "PYTHONHASHSEED": "0", "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            tail = (done.stderr or done.stdout).strip()[-1000:]
            raise ImageError(f"the guest's Python fails: {tail}")
        return done.stdout


def fetch_wheels(requirements: str, folder: Path) -> None:
    """Fetch the wheels of hashed requirements into an empty folder.

    Raises:
        ImageError: pip cannot fetch one, or a hash differs.
    """
    wanted = folder / "requirements.txt"
    wanted.write_text(requirements)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--require-hashes", "--only-binary", ":all:", "--dest", str(folder)]
    command += ["--python-version", "3.11", "--implementation", "cp"]
    command += ["--platform", "manylinux2014_x86_64", "--requirement", str(wanted)]
    code, said = run_guarded(command, scratch=folder)
    if code != 0:
        raise ImageError(f"pip cannot fetch the guest's wheels: {said.strip()[-500:]}")


def locked_requirements(lock: str, names: Sequence[str] = WHEELS) -> str:
    """The blocks of a hashed lock file for these packages.

    Raises:
        ImagePartError: One is not locked.
    """
    table = _blocks(lock)
    if missing := [name for name in names if name not in table]:
        raise ImagePartError(
            f"the lock file does not pin {', '.join(missing)}", key="application.wheels"
        )
    return "\n".join(table[name] for name in names) + "\n"


def with_dependencies(lock: str, names: Sequence[str]) -> tuple[str, ...]:
    """These packages and all they depend on, by name, as the comments of the lock file say."""
    table = _blocks(lock)
    needed_by = {
        name: set(re.findall(r"^ +#(?: via)? +([\w.-]+)(?: |$)", block, re.M))
        for name, block in table.items()
    }
    found, todo = set[str](), list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [each for each, users in needed_by.items() if name in users]
    return tuple(sorted(found))


def _blocks(lock: str) -> dict[str, str]:
    """What a lock file says, by package."""
    blocks = re.findall(r"^\S.*(?:\n[ \t]+\S.*)*", lock, re.M)
    return {block.partition("==")[0].lower(): block for block in blocks}
