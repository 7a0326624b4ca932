"""Builds Linux micro-VM images: a cloud kernel, a Python root for the sidecar, a program.

The same inputs give the same bytes: package and wheel hashes, definition, sidecar and application
sources. The digest of all of them keys the cache, so that a build with nothing new costs a look.
Small roots are an initramfs of several segments; large ones are a disk (`images.erofs`), with an
initramfs that only mounts it. Either way a file that changes changes one layer (`images.layers`).
"""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from sappers.errors import ImageError
from sappers.images import kernel as kernels
from sappers.images.application import (
    MERGED,
    Application,
    Filled,
    inputs_of,
    merged_entries,
)
from sappers.images.archive import Entry, cpio, file_entry, folder_entry, tree_entries
from sappers.images.build_records import BuildRecords, building
from sappers.images.builder import Report
from sappers.images.definition import ImageDefinition
from sappers.images.erofs import LAYERS_MAX, write_root_disk
from sappers.images.layers import ALIGNMENT_BYTES, layers, power_of_two
from sappers.images.own_sidecar import lay_sidecar, sidecar_sources
from sappers.images.parts import Kernel, Parts, Versions, digest_of
from sappers.images.programs import plain_environment
from sappers.images.python_root import INTERPRETER, SITE
from sappers.images.store import FolderImageStore
from sappers.images.tree import Tree
from sappers.model.image import ARCHITECTURE, Manifest, MicrovmBoot
from sappers.security.signing import SigningKey

RECIPE = "4"  # raise it when this builder's output changes for the same inputs
_INITRAMFS_MAX_BYTES = 48 << 20  # unpacked: it takes the guest's memory for as long as it runs
_INITRAMFS_PACKED_MAX_BYTES = 30 << 20
_KERNEL_BYTES = 33 << 20  # of the guest's memory
_PAGE_BYTES = 4096
_SEGMENT_BYTES = 2 << 20
_DISK_LAYER_BYTES_MIN = 4 << 20
_DISK_LAYERS = 32
_FILES = {
    "etc/passwd": "root:x:0:0::/:/\napp:x:1000:1000::/app:/\n",
    "etc/group": "root:x:0:\napp:x:1000:\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/resolv.conf": "nameserver 10.0.2.3\n",
}


class MicrovmBuilder:
    """Builds images into a store; implements `images.builder.Builder`.

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
        self._parts = Parts(cache, lock)
        self._records = BuildRecords(cache, store, signing_key)

    def build(
        self, name: str, definition: ImageDefinition, folder: Path, report: Report
    ) -> tuple[str, bool]:
        """The image's digest, and whether anything had to be built.

        Raises:
            ImageError: It cannot be built; nothing half done is left.
        """
        alone = self._parts.alone(report)
        with building(name, self._parts.cache), alone, self._store.holding():
            return self._build(name, definition, folder, report)

    def _build(
        self, name: str, definition: ImageDefinition, folder: Path, report: Report
    ) -> tuple[str, bool]:
        report("asking apt for versions")
        versions = self._parts.versions(definition.program.packages, definition.program.wheels)
        inputs = digest_of(
            *(RECIPE, name, definition, versions),
            *(label.encode() + path.read_bytes() for label, path in sidecar_sources()),
            *inputs_of(definition, folder),
        )
        if (known := self._records.find(inputs)) is not None:
            return known, False
        with self._parts.scratch("image") as work:
            manifest = self._make(name, definition, folder, versions, report, work)
        return self._records.keep(inputs, manifest), True

    def _make(
        self,
        name: str,
        definition: ImageDefinition,
        folder: Path,
        versions: Versions,
        report: Report,
        work: Path,
    ) -> Manifest:
        kernel = self._parts.kernel(versions.kernel, report)
        root = self._parts.python_root(versions, report)
        base, fixed = merged_entries(tree_entries(root)), _fixed_entries()
        application = Application(definition, folder, self._parts, versions, report)
        report("preparing the application")
        (work / "application").mkdir()
        present = frozenset(entry.path for entry in (*base, *fixed))
        filled = application.fill(root, present, work / "application")
        modules = kernel.in_order(kernels.MODULES)
        groups = [
            base,
            [*_sidecar_entries(root, work), *_module_entries(modules), *fixed],
            filled.stable,
            [*filled.own, *_settings_entries(definition, filled, modules)],
        ]
        boot = self._boot(kernel, groups, definition.memory_mib, versions, report, work)
        return Manifest(
            name=name,
            architecture=ARCHITECTURE,
            boot=boot,
            memory_mib=definition.memory_mib,
            guest_port=filled.port,
            health_interval_seconds=definition.health.interval_seconds,
            stateful=definition.stateful,
        )

    def _boot(
        self,
        kernel: Kernel,
        groups: list[list[Entry]],
        memory_mib: int,
        versions: Versions,
        report: Report,
        work: Path,
    ) -> MicrovmBoot:
        size = sum(_in_memory(entry) for group in groups for entry in group)
        initrd, disk = work / "initrd", work / "root"
        if size <= _INITRAMFS_MAX_BYTES:
            report("packing the root file system")
            _write_segments(layers(groups, _SEGMENT_BYTES, whole=2), initrd)
        if not initrd.exists() or not _fits(size, initrd.stat().st_size, memory_mib):
            layer_bytes = max(_DISK_LAYER_BYTES_MIN, power_of_two(size // _DISK_LAYERS))
            parts = layers(groups, layer_bytes, whole=2)
            while len(parts) > LAYERS_MAX:
                layer_bytes *= 2
                parts = layers(groups, layer_bytes, whole=2)
            write_root_disk(parts, disk, work, report)
            _write_segments([self._mounting(kernel, versions, len(parts), report, work)], initrd)
        report("storing")
        return MicrovmBoot(
            kernel=self._store.put_file(kernel.vmlinux),
            initrd=self._store.put_file(initrd),
            root=self._store.put_file(disk) if disk.exists() else None,
        )

    def _mounting(
        self, kernel: Kernel, versions: Versions, count: int, report: Report, work: Path
    ) -> list[Entry]:
        """An initramfs that mounts the disk's layers over each other and goes there."""
        (work / "busybox").mkdir()
        tree = Tree(work / "busybox", "busybox")
        self._parts.unpack([versions.busybox], tree, report)
        busybox = tree.find("bin/busybox")
        if busybox is None:
            raise ImageError(f"{versions.busybox.file} has no bin/busybox")
        modules = kernel.in_order(kernels.DISK_MODULES)
        script = resources.files("sappers.images").joinpath("mount_root.sh").read_text()
        return [
            *_module_entries(modules),
            file_entry("bin/busybox", busybox.content, executable=True),
            file_entry("init", script.replace("@LAYERS@", str(count)).encode(), executable=True),
            *(folder_entry(path) for path in ("dev", "layers", "writable", "root")),
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        ]


def _in_memory(entry: Entry) -> int:
    return -(-entry.size_bytes // _PAGE_BYTES) * _PAGE_BYTES


def _fits(unpacked_bytes: int, packed_bytes: int, memory_mib: int) -> bool:
    """Whether a root can be an initramfs.

    The kernel unpacks it into at most half of the memory that is left beside itself and the packed
    archive; some of that is for whoever writes files.
    """
    half = ((memory_mib << 20) - _KERNEL_BYTES - packed_bytes) / 2
    return packed_bytes <= _INITRAMFS_PACKED_MAX_BYTES and unpacked_bytes <= 0.9 * half


def _sidecar_entries(root: Path, work: Path) -> list[Entry]:
    """The sidecar; what PID 1 will import is there."""
    starts = ("sappers.sidecar.main", "sappers.sidecar.hub", "sappers.sidecar.guest")
    lay_sidecar(root, work / "sidecar", *starts)
    return tree_entries(work / "sidecar")


def _module_entries(modules: Sequence[Path]) -> list[Entry]:
    return [file_entry(place, file) for place, file in _module_places(modules)]


def _module_places(modules: Sequence[Path]) -> list[tuple[str, Path]]:
    return [(f"modules/{number:02}-{file.name}", file) for number, file in enumerate(modules)]


def _fixed_entries() -> list[Entry]:
    """What is the same in every image."""
    return [
        *(file_entry(path, text.encode()) for path, text in _FILES.items()),
        *(folder_entry(path) for path in ("proc", "sys", "dev", "app", "run", "var")),
        *(folder_entry(f"usr/{name}") for name in MERGED),
        *(Entry(name, stat.S_IFLNK | 0o777, f"usr/{name}".encode()) for name in MERGED),
        folder_entry("tmp", 0o1777),
        Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
    ]


def _settings_entries(
    definition: ImageDefinition, filled: Filled, modules: Sequence[Path]
) -> list[Entry]:
    """What makes the guest run this application."""
    settings = json.dumps(_guest_settings(definition, filled, modules), sort_keys=True)
    folders = ["/app", *filled.module_folders]
    init = (
        f"#!/{INTERPRETER} -IS\nimport sys\n"
        f'sys.path[:0] = ["/{SITE}"]\nsys.path += {folders!r}\n'
        "from sappers.sidecar.main import main\nmain()\n"
    )
    return [
        file_entry("etc/sappers/guest.json", settings.encode()),
        file_entry("init", init.encode(), executable=True),
    ]


def _guest_settings(
    definition: ImageDefinition, filled: Filled, modules: Sequence[Path]
) -> dict[str, Any]:
    """What `sidecar.settings.load_image_settings` reads."""
    return {
        "application": filled.name,
        "in_process": definition.program.in_process,
        "preload": filled.preload,
        "modules": [f"/{place}" for place, _ in _module_places(modules)],
        "environment": {**filled.environment, **definition.environment},
        "check": definition.check_settings(filled.port),
        "launch": filled.launch,
    }


def _write_segments(parts: Iterable[list[Entry]], path: Path) -> None:
    """Each part as an archive of its own, packed on its own, at the beginning of a chunk.

    The kernel unpacks one after the other and skips the zeros between.
    """
    with path.open("wb") as output:
        for part in parts:
            output.seek(-output.tell() % ALIGNMENT_BYTES, 1)
            output.truncate()
            _compress(cpio(part), output.fileno())
            output.seek(0, 2)


def _compress(archive: Iterator[bytes], output: int) -> None:
    """Write the archive in the LZ4 frame that kernels take."""
    packer = subprocess.Popen(
        ["lz4", "-l", "-9", "-q", "-", "-"],
        env=plain_environment(),
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
