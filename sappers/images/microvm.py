"""Builds Linux micro-VM images: Debian's cloud kernel and a Python root as an lz4 initramfs.

The same inputs give the same bytes: package and wheel hashes, definition, sidecar and application
sources. The digest of all of them keys the cache, so that a build with nothing new costs a look.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from sappers.errors import ImageError
from sappers.images import debian
from sappers.images import kernel as kernels
from sappers.images.archive import Entry, cpio, file_entry, folder_entry, tree_entries
from sappers.images.definition import ImageDefinition
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
from sappers.model.image import Manifest, MicrovmBoot
from sappers.security.signing import SigningKey

Progress = Callable[[str], None]

RECIPE = "2"  # raise it when this builder's output changes for the same inputs
ARCHITECTURE = "x86_64"
_SIDECAR = ("__init__.py", "model/__init__.py", "model/subjects.py")
_INIT = f"""#!/{INTERPRETER} -IS
import sys
sys.path[:0] = ["/{SITE}"]
sys.path.append("/app")
from sappers.sidecar.main import main
main()
"""
_FILES = {
    "etc/passwd": "root:x:0:0::/:/\napp:x:1000:1000::/app:/\n",
    "etc/group": "root:x:0:\napp:x:1000:\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/resolv.conf": "nameserver 10.0.2.3\n",
}


class MicrovmBuilder:
    """Builds images into a store.

    Args:
        store: Where images go.
        cache: Folder for packages, kernels and roots; may be deleted at any time.
        lock: The hashed lock file that pins the sidecar's packages.
        signing_key: Signs what is built; the store must trust it.
    """

    def __init__(
        self, store: FolderImageStore, cache: Path, lock: Path, signing_key: SigningKey
    ) -> None:
        self._store = store
        self._cache = cache
        self._lock = lock
        self._signing_key = signing_key

    def build(
        self, name: str, definition: ImageDefinition, folder: Path, progress: Progress
    ) -> tuple[str, bool]:
        """The image's digest, and whether anything had to be built.

        Args:
            name: The image's name.
            definition: What to build.
            folder: Where the definition's files are.
            progress: Told what is going on, for people.

        Raises:
            ImageError: It cannot be built; nothing half done is left.
        """
        try:
            with self._alone(), self._store.holding():
                return self._build(name, definition, folder, progress)
        except OSError as error:
            where = error.filename or self._cache
            raise ImageError(
                f"cannot build {name}: {where}: {error.strerror or error}",
                hint="free some space and repeat" if error.errno == 28 else None,
            ) from error

    def _build(
        self, name: str, definition: ImageDefinition, folder: Path, progress: Progress
    ) -> tuple[str, bool]:
        progress("asking apt for versions")
        kernel, *packages = self._resolve()
        requirements = locked_requirements(self._lock.read_text())
        inputs = _digest(
            RECIPE,
            name,
            msgspec.json.encode(definition),
            kernel,
            packages,
            requirements,
            *(
                f"{label}\0".encode() + path.read_bytes()
                for label, path in _sources(definition, folder)
            ),
        )
        record = self._cache / "builds" / inputs
        if record.exists():
            digest = record.read_text().strip()
            manifest = self._store.manifest(digest)
            if manifest is not None and not self._store.missing_chunks(digest):
                self._store.put_manifest(manifest, self._signing_key)
                return digest, False
        vmlinux, modules = self._kernel(kernel, progress)
        root = self._root(packages, requirements, progress)
        progress("packing the root file system")
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix="image-") as work:
            entries = self._entries(definition, folder, root, modules, Path(work))
            initrd = self._store.put(_compressed(cpio(entries), Path(work) / "initrd"))
        progress("storing")
        digest = self._store.put_manifest(
            Manifest(
                name=name,
                architecture=ARCHITECTURE,
                boot=MicrovmBoot(self._store.put_file(vmlinux), initrd),
                memory_mib=definition.memory_mib,
                guest_port=definition.port,
                health_interval_seconds=definition.health.interval_seconds,
            ),
            self._signing_key,
        )
        record.parent.mkdir(exist_ok=True)
        record.write_text(f"{digest}\n")
        return digest, True

    def _resolve(self) -> list[debian.Package]:
        """The kernel's package first."""
        name = debian.kernel_package()
        found = debian.resolve((name, *PACKAGES))
        return sorted(found, key=lambda package: (package.name != name, package.file))

    def _kernel(self, package: debian.Package, progress: Progress) -> tuple[Path, Path]:
        """The uncompressed kernel and its folder of modules, made once per package."""
        ready = self._cache / "kernels" / package.file.removesuffix(".deb")
        if not ready.exists():
            progress(f"fetching and unpacking {package.name}")
            debian.fetch([package], self._packages)
            with tempfile.TemporaryDirectory(dir=self._scratch, prefix="kernel-") as work:
                raw, made = Path(work) / "raw", Path(work) / "made"
                made.mkdir()
                debian.unpack(self._packages / package.file, raw)
                (vmlinuz,) = (raw / "boot").glob("vmlinuz-*")
                kernels.unpack_kernel(vmlinuz, made / "vmlinux")
                files = kernels.module_files(raw / "lib" / "modules")
                order = kernels.load_order(files)
                (made / "modules").mkdir()
                for number, name in enumerate(order):
                    shutil.copy(files[name], made / "modules" / f"{number:02}-{name}.ko")
                ready.parent.mkdir(exist_ok=True)
                made.rename(ready)
        return ready / "vmlinux", ready / "modules"

    def _root(self, packages: list[debian.Package], requirements: str, progress: Progress) -> Path:
        """The Python root that all images share, made once per set of packages and wheels."""
        ready = self._cache / "roots" / _digest(RECIPE, packages, requirements)
        if not ready.exists():
            progress("fetching Python for guests")
            debian.fetch(packages, self._packages)
            wheels = fetch_wheels(requirements, self._cache / "wheels" / _digest(requirements))
            progress("compiling Python for guests")
            files = [self._packages / package.file for package in packages]
            with tempfile.TemporaryDirectory(dir=self._scratch, prefix="root-") as work:
                root = Path(work) / "root"
                build_root(files, wheels, Path(work), root)
                ready.parent.mkdir(exist_ok=True)
                root.rename(ready)
        return ready

    def _entries(
        self, definition: ImageDefinition, folder: Path, root: Path, modules: Path, work: Path
    ) -> list[Entry]:
        """Everything in the image's root file system."""
        for label, path in _sources(definition, folder):
            target = work / "new" / label
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        python = GuestPython(root)
        python.compile(work / "new" / SITE, f"/{SITE}")
        python.compile(work / "new" / "app", "/app", optimise=0)
        python.run("-BIS", "-c", _trial(SITE, root, work / "new", definition))
        files = sorted(modules.iterdir())
        settings = json.dumps(_guest_settings(definition, [f"/modules/{f.name}" for f in files]))
        return [
            *tree_entries(root),
            *tree_entries(work / "new"),
            *(file_entry(f"modules/{file.name}", file) for file in files),
            *(file_entry(path, text.encode()) for path, text in _FILES.items()),
            file_entry("etc/sappers/guest.json", settings.encode()),
            file_entry("init", _INIT.encode(), executable=True),
            *(folder_entry(path) for path in ("proc", "sys", "dev", "app")),
            folder_entry("tmp", 0o1777),
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        ]

    @property
    def _packages(self) -> Path:
        return self._cache / "packages"

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


def _sources(definition: ImageDefinition, folder: Path) -> list[tuple[str, Path]]:
    """(place in the guest, file) of the sidecar and of the application, sorted."""
    own = Path(str(resources.files("sappers")))
    names = (*_SIDECAR, *(f"sidecar/{path.name}" for path in (own / "sidecar").glob("*.py")))
    found = [(f"{SITE}/sappers/{name}", own / name) for name in names]
    for name in definition.program.files:
        path = folder / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [
            (f"app/{file.relative_to(folder)}", file)
            for file in files
            if file.is_file() and "__pycache__" not in file.parts
        ]
    return sorted(found)


def _guest_settings(definition: ImageDefinition, modules: list[str]) -> dict[str, Any]:
    """What `sidecar.settings.load_image_settings` reads."""
    return {
        "application": definition.program.module or "",
        "in_process": definition.program.in_process,
        "modules": modules,
        "environment": definition.environment,
        "check": {
            "kind": definition.health.check,
            "port": definition.port or 0,
            "path": definition.health.path,
            "timeout_seconds": definition.health.timeout_seconds,
        },
    }


def _trial(site: str, root: Path, new: Path, definition: ImageDefinition) -> str:
    """A program for the guest's Python: what PID 1 will import must be there."""
    folders = [str(new / site), str(root / site), str(new / "app")]
    module = definition.program.module or ""
    return (
        f"import sys; sys.path += {folders!r}\n"
        "import sappers.sidecar.main, sappers.sidecar.hub, sappers.sidecar.guest\n"
        f"import importlib.util\nif importlib.util.find_spec({module!r}) is None:\n"
        f"    sys.exit('the application has no module ' + {module!r})\n"
    )


def _compressed(archive: Iterator[bytes], path: Path) -> Iterator[bytes]:
    """The archive in the LZ4 frame that kernels take, through a file beside."""
    with path.open("wb") as output:
        packer = subprocess.Popen(
            ["lz4", "-l", "-9", "-q", "-", "-"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.PIPE,
        )
        assert packer.stdin is not None and packer.stderr is not None
        try:
            for block in archive:
                packer.stdin.write(block)
            packer.stdin.close()
        except BrokenPipeError:
            pass  # it says why below
        if packer.wait() != 0:
            raise ImageError(f"lz4 failed: {packer.stderr.read().decode().strip()[-300:]}")
    with path.open("rb") as file:
        yield from iter(lambda: file.read(1 << 20), b"")


def _digest(*parts: Any) -> str:
    found = hashlib.sha256()
    for part in parts:
        block = part if isinstance(part, bytes) else msgspec.json.encode(part)
        found.update(b"%d:" % len(block) + block)
    return found.hexdigest()
