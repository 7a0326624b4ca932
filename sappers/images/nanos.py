"""Builds Nanos unikernels: a Nanos kernel and a Python root with the sidecar, on a disk by `ops`.

The same inputs give the same bytes: kernel, `ops`, hashes of packages and wheels, definition,
sources of sidecar and application. `ops` does not; `nanos_disk` puts what it made into order.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from sappers.errors import ImageError
from sappers.images import debian, ops
from sappers.images.builder import Report
from sappers.images.definition import ImageDefinition
from sappers.images.nanos_disk import write_in_order
from sappers.images.python_root import (
    INTERPRETER,
    PACKAGES,
    SITE,
    GuestPython,
    build_root,
    fetch_wheels,
    locked_requirements,
)
from sappers.images.store import FolderImageStore
from sappers.model.image import Manifest, NanosBoot
from sappers.security.signing import SigningKey

RECIPE = "1"  # raise it when this builder's output changes for the same inputs
ARCHITECTURE = "x86_64"
_SIDECAR = ("__init__.py", "model/__init__.py", "model/subjects.py")
_INIT = f"""import sys
sys.path[:0] = ["/{SITE}"]
sys.path.append("/app")
from sappers.sidecar.unikernel import main
main()
"""
_FILES = {
    "init.py": _INIT,
    "etc/passwd": "root:x:0:0::/:/\n",
    "etc/group": "root:x:0:\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
}


class NanosBuilder:
    """Builds images into a store; a `builder.Builder`.

    Args:
        store: Where images go.
        signing_key: Vouches for them.
        cache: Folder for packages, roots and tools; may be deleted at any time.
        lock: The hashed lock file that pins the sidecar's packages.
        environment: Where `PATH`, `OPS_HOME` and `NANOS_DIR` are looked up.
        tools: Folder for an `ops` that Go brings.
    """

    def __init__(
        self,
        store: FolderImageStore,
        signing_key: SigningKey,
        cache: Path,
        lock: Path,
        environment: Mapping[str, str],
        tools: Path,
    ) -> None:
        self._store = store
        self._key = signing_key
        self._cache = cache
        self._lock = lock
        self._environment = environment
        self._tools = tools

    def build(
        self, name: str, definition: ImageDefinition, folder: Path, report: Report
    ) -> tuple[str, bool]:
        """The image's digest, and whether anything had to be built; see `builder.Builder`.

        Raises:
            ImageError: It cannot be built; nothing half done is left.
        """
        refuse_what_nanos_cannot_run(name, definition)
        kernel = ops.find_kernel(self._environment)
        try:
            with self._alone():
                return self._build(name, definition, folder, kernel, report)
        except OSError as error:
            where = error.filename or self._cache
            raise ImageError(
                f"cannot build {name}: {where}: {error.strerror or error}",
                hint="free some space and repeat" if error.errno == 28 else None,
            ) from error

    def _build(
        self,
        name: str,
        definition: ImageDefinition,
        folder: Path,
        kernel: ops.NanosKernel,
        report: Report,
    ) -> tuple[str, bool]:
        program = ops.find_ops(self._environment, self._tools, report)
        report("asking apt for versions")
        packages = debian.resolve(PACKAGES)
        requirements = locked_requirements(self._lock.read_text())
        sources = _sources(definition, folder)
        inputs = _digest(
            RECIPE,
            name,
            msgspec.json.encode(definition),
            packages,
            requirements,
            *(path.read_bytes() for path in (program, kernel.kernel, kernel.boot)),
            *(f"{place}\0".encode() + path.read_bytes() for place, path in sources),
        )
        record = self._cache / "builds" / inputs
        if (known := self._known(record)) is not None:
            return known, False
        root = self._root(packages, requirements, report)
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix="nanos-") as work:
            disk = self._disk(program, kernel, definition, sources, root, Path(work), report)
            report("storing")
            blob = self._store.put_file(disk)
        manifest = Manifest(
            name=name,
            architecture=ARCHITECTURE,
            boot=NanosBoot(blob),
            memory_mib=definition.memory_mib,
            guest_port=definition.port,
            health_interval_seconds=definition.health.interval_seconds,
            stateful=definition.stateful,
        )
        digest = self._store.put_manifest(manifest, self._key)
        record.parent.mkdir(exist_ok=True)
        record.write_text(f"{digest}\n")
        return digest, True

    def _known(self, record: Path) -> str | None:
        """The digest of an image built before of the same inputs, when all of it is here."""
        if not record.exists():
            return None
        digest = record.read_text().strip()
        manifest = self._store.manifest(digest)
        if manifest is None or self._store.missing_chunks(digest):
            return None
        return self._store.put_manifest(manifest, self._key)

    def _disk(
        self,
        program: Path,
        kernel: ops.NanosKernel,
        definition: ImageDefinition,
        sources: list[tuple[str, Path]],
        root: Path,
        work: Path,
        report: Report,
    ) -> Path:
        report("compiling the application")
        home = work / "home"
        ops.prepare_home(home)
        files = ops.files_folder(home)
        files.rmdir()
        shutil.copytree(root, files, symlinks=True)
        _add(files, definition, sources, work / "new", GuestPython(root))
        report("running ops")
        made = ops.create_disk(program, kernel, package_manifest(), home)
        ordered = work / "disk"
        write_in_order(made, ordered)
        return ordered

    def _root(self, packages: Sequence[debian.Package], requirements: str, report: Report) -> Path:
        """The Python root that all images share, made once per set of packages and wheels."""
        ready = self._cache / "nanos-roots" / _digest(RECIPE, packages, requirements)
        if not ready.exists():
            report("fetching Python for guests")
            debian.fetch(packages, self._cache / "packages")
            wheels = fetch_wheels(requirements, self._cache / "wheels" / _digest(requirements))
            report("compiling Python for guests")
            files = [self._cache / "packages" / package.file for package in packages]
            with tempfile.TemporaryDirectory(dir=self._scratch, prefix="root-") as work:
                root = Path(work) / "root"
                build_root(files, wheels, Path(work), root)
                ready.parent.mkdir(exist_ok=True)
                root.rename(ready)
        return ready

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One build at a time in a cache; what a killed one left is swept first."""
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in self._scratch.iterdir():
                shutil.rmtree(left, ignore_errors=True)
            yield

    @property
    def _scratch(self) -> Path:
        return self._cache / "scratch"


def refuse_what_nanos_cannot_run(name: str, definition: ImageDefinition) -> None:
    """Nothing, for an application that can share its process with the sidecar.

    Raises:
        ImageError: It cannot; says why, and what to do.
    """
    program = definition.application
    if program is None:
        raise ImageError(f"{name} has no [application], which a unikernel runs")
    if program.module is None and program.script is None:
        kind = ", ".join(program.programs) or "nothing"
        raise ImageError(
            f"{name} cannot be a Nanos unikernel: it has one process, which is the sidecar's "
            f"Python, and the application ({kind}) is a program of its own",
            hint=f"build it as a micro-VM: sappers-deploy image build {name} --kind microvm",
        )
    if program.packages:
        raise ImageError(
            f"{name} cannot be a Nanos unikernel: Debian packages ({', '.join(program.packages)}) "
            "are for Linux guests",
            hint=f"build it as a micro-VM: sappers-deploy image build {name} --kind microvm",
        )


def package_manifest() -> dict[str, Any]:
    """What `ops` is told of the program, as its package manifests have it."""
    return {
        "Program": f"/{INTERPRETER}",
        "Args": [f"/{INTERPRETER}", "-IS", "/init.py"],
        "Env": {"LANG": "C.UTF-8"},
    }


def guest_settings(definition: ImageDefinition) -> dict[str, Any]:
    """What `sidecar.settings.load_image_settings` reads in the guest."""
    program = definition.program
    return {
        "application": program.module or f"/app/{program.script}c",
        "in_process": program.in_process,
        "environment": definition.environment,
        "check": {
            "kind": definition.health.check,
            "port": definition.port or 0,
            "path": definition.health.path,
            "timeout_seconds": definition.health.timeout_seconds,
        },
        "launch": {
            "kind": "module" if program.module else "script",
            "arguments": program.arguments,
        },
    }


def _sources(definition: ImageDefinition, folder: Path) -> list[tuple[str, Path]]:
    """(place in the guest, file) of the sidecar and of the application, sorted."""
    own = Path(str(resources.files("sappers")))
    names = (*_SIDECAR, *(f"sidecar/{path.name}" for path in (own / "sidecar").glob("*.py")))
    found = [(f"{SITE}/sappers/{name}", own / name) for name in names]
    program = definition.program
    wanted = (*program.files, program.script) if program.script else program.files
    for name in dict.fromkeys(wanted):
        path = folder / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [
            (f"app/{file.relative_to(folder)}", file)
            for file in files
            if file.is_file() and "__pycache__" not in file.parts
        ]
    return sorted(set(found))


def _add(
    files: Path,
    definition: ImageDefinition,
    sources: list[tuple[str, Path]],
    new: Path,
    python: GuestPython,
) -> None:
    """Put sidecar, application and settings into the guest's files, compiled."""
    for place, source in sources:
        (new / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, new / place)
    (new / "app").mkdir(exist_ok=True)
    python.compile(new / SITE, f"/{SITE}")
    python.compile(new / "app", "/app", optimise=0)
    _check(definition, new, python)
    shutil.copytree(new, files, dirs_exist_ok=True)
    settings = json.dumps(guest_settings(definition), sort_keys=True)
    for place, text in {**_FILES, "etc/sappers/guest.json": settings}.items():
        (files / place).parent.mkdir(parents=True, exist_ok=True)
        (files / place).write_text(text)
    for place in ("tmp", "app"):
        (files / place).mkdir(exist_ok=True)


def _check(definition: ImageDefinition, new: Path, python: GuestPython) -> None:
    """See to it that the guest will find its application.

    Raises:
        ImageError: It will not.
    """
    program = definition.program
    if program.script is not None:
        if not (new / "app" / f"{program.script}c").exists():
            raise ImageError(f"{program.script} is no Python file")
        return
    python.run(
        *("-BIS", "-c"),
        f"import sys, importlib.util; sys.path.append({str(new / 'app')!r})\n"
        f"if importlib.util.find_spec({program.module!r}) is None:\n"
        f"    sys.exit('the application has no module ' + {program.module!r})\n",
    )


def _digest(*parts: Any) -> str:
    found = hashlib.sha256()
    for part in parts:
        block = part if isinstance(part, bytes) else msgspec.json.encode(part)
        found.update(b"%d:" % len(block) + block)
    return found.hexdigest()
