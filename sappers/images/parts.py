"""What Linux images are made of, each made once and kept: packages, kernels, the Python root."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec

from sappers.durable import keep_durably
from sappers.images import debian
from sappers.images import kernel as kernels
from sappers.images.builder import Report
from sappers.images.one_build import one_build
from sappers.images.python_root import (
    PACKAGES,
    build_root,
    fetch_wheels,
    locked_requirements,
    with_dependencies,
)
from sappers.images.tree import Tree

_RECIPE = "4"  # raise it when what is kept here changes for the same inputs
_BUSYBOX = "busybox-static"


class Versions(msgspec.Struct, frozen=True):
    """What an image is to be made of, by version and hash.

    Attributes:
        python: Packages of the sidecar's Python.
        application: Packages that the definition names, and all they depend on.
        requirements: The sidecar's wheels, as a hashed requirements file.
        wheels: The application's, likewise; empty for none.
    """

    kernel: debian.Package
    busybox: debian.Package
    python: tuple[debian.Package, ...]
    application: tuple[debian.Package, ...]
    requirements: str
    wheels: str = ""


class Kernel(msgspec.Struct, frozen=True):
    """A kernel, unpacked.

    Attributes:
        vmlinux: The ELF file.
        modules: Module files by name.
    """

    vmlinux: Path
    modules: dict[str, Path]

    def in_order(self, wanted: Sequence[str]) -> list[Path]:
        """These modules and what they depend on, in the order to load them."""
        return [self.modules[name] for name in kernels.load_order(self.modules, wanted)]


class Parts:
    """The cache of parts.

    Args:
        cache: Its folder; may be deleted at any time.
        lock: The hashed lock file that pins the sidecar's wheels; `dev.lock` beside it pins those
            that applications may have.
    """

    def __init__(self, cache: Path, lock: Path) -> None:
        self.cache = cache
        self._lock = lock

    def alone(self, report: Report = lambda _: None) -> AbstractContextManager[None]:
        """See `one_build`."""
        return one_build(self.cache, "lock", self._scratch, report)

    @contextlib.contextmanager
    def scratch(self, prefix: str) -> Iterator[Path]:
        """A folder that is gone afterwards."""
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix=f"{prefix}-") as folder:
            yield Path(folder)

    def versions(self, packages: Sequence[str], wheels: Sequence[str] = ()) -> Versions:
        """What apt has now, and what the lock files pin.

        Raises:
            ImageError: One lacks.
        """
        pinned = self._lock.with_name("dev.lock").read_text() if wheels else ""
        kernel = debian.kernel_package()
        with self.scratch("apt") as work:
            names = debian.with_dependencies(packages, work) if packages else ()
        found = debian.resolve((kernel, _BUSYBOX, *PACKAGES, *names))
        table = {package.name: package for package in found}
        return Versions(
            kernel=table[kernel],
            busybox=table[_BUSYBOX],
            python=tuple(table[name] for name in sorted(PACKAGES)),
            application=tuple(table[name] for name in sorted(names)),
            requirements=locked_requirements(self._lock.read_text()),
            wheels=locked_requirements(pinned, with_dependencies(pinned, wheels)) if wheels else "",
        )

    def kernel(self, package: debian.Package, report: Report) -> Kernel:
        """The uncompressed kernel and the modules that guests use, made once per package."""
        ready = self.cache / "kernels" / f"{package.file.removesuffix('.deb')}-{_RECIPE}"
        if not ready.exists():
            report(f"fetching and unpacking {package.name}")
            self._fetch([package])
            with self.scratch("kernel") as work:
                raw, made = work / "raw", work / "made"
                (made / "modules").mkdir(parents=True)
                debian.unpack(self._packages / package.file, raw)
                (vmlinuz,) = (raw / "boot").glob("vmlinuz-*")
                kernels.unpack_kernel(vmlinuz, made / "vmlinux")
                files = kernels.module_files(raw / "lib" / "modules")
                for name in kernels.load_order(files, (*kernels.MODULES, *kernels.DISK_MODULES)):
                    shutil.copy(files[name], made / "modules" / f"{name}.ko")
                _keep(made, ready)
        return Kernel(ready / "vmlinux", dict(kernels.module_files(ready / "modules")))

    def python_root(self, versions: Versions, report: Report) -> Path:
        """The Python root that all images share, made once per set of packages and wheels."""
        ready = self.cache / "roots" / digest_of(_RECIPE, versions.python, versions.requirements)
        if not ready.exists():
            report("fetching Python for guests")
            self._fetch(versions.python)
            wheels = self.wheels(versions.requirements)
            report("compiling Python for guests")
            files = [self._packages / package.file for package in versions.python]
            with self.scratch("root") as work:
                build_root(files, wheels, work, work / "root")
                _keep(work / "root", ready)
        return ready

    def wheels(self, requirements: str) -> tuple[Path, ...]:
        """The wheels of hashed requirements, by name; fetched once."""
        ready = self.cache / "wheels" / digest_of(requirements)
        if not ready.exists():
            with self.scratch("wheels") as work:
                made = work / "made"
                made.mkdir()
                fetch_wheels(requirements, made)
                _keep(made, ready)
        return tuple(sorted(ready.glob("*.whl")))

    def unpack(self, packages: Sequence[debian.Package], tree: Tree, report: Report) -> None:
        """Lay the content of packages over a tree."""
        report(f"fetching {len(packages)} Debian packages")
        self._fetch(packages)
        for package in packages:
            report(f"unpacking {package.name}")
            with debian.open_content(self._packages / package.file) as content:
                tree.add_tar(content, folders_follow_links=True)

    def _fetch(self, packages: Sequence[debian.Package]) -> None:
        with self.scratch("packages") as work:
            debian.fetch(packages, self._packages, work)

    @property
    def _packages(self) -> Path:
        return self.cache / "packages"

    @property
    def _scratch(self) -> Path:
        return self.cache / "scratch"


def digest_of(*parts: Any) -> str:
    """SHA-256 of all parts, each as bytes or JSON, so that none runs into the next."""
    found = hashlib.sha256()
    for part in parts:
        block = part if isinstance(part, bytes) else msgspec.json.encode(part, order="sorted")
        found.update(b"%d:" % len(block) + block)
    return found.hexdigest()


def _keep(made: Path, ready: Path) -> None:
    ready.parent.mkdir(exist_ok=True)
    keep_durably(made, ready)
