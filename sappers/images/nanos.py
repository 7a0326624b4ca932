"""Builds Nanos unikernels: a Nanos kernel and a Python root with the sidecar, on a disk by `ops`.

The same inputs give the same bytes: kernel, `ops`, hashes of packages and wheels, definition,
sources of sidecar and application. `ops` does not; `nanos_disk` puts what it made into order.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sappers.errors import ImagePartError
from sappers.images import ops
from sappers.images.application import CARRIED, Application, Filled, inputs_of
from sappers.images.build_records import BuildRecords, building
from sappers.images.builder import Report
from sappers.images.definition import ImageDefinition
from sappers.images.nanos_disk import write_in_order
from sappers.images.own_sidecar import lay_sidecar, sidecar_sources
from sappers.images.parts import Parts, Versions, digest_of
from sappers.images.python_root import INTERPRETER, SITE
from sappers.images.store import FolderImageStore
from sappers.model.image import ARCHITECTURE, Manifest, NanosBoot
from sappers.security.signing import SigningKey

RECIPE = "4"  # raise it when this builder's output changes for the same inputs
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
    # Nanos calls itself by the address that QEMU's user-mode network always gives. A server that
    # looks its own name up must not wait for a name server that is not there.
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n10.0.2.15 10-0-2-15\n",
}


class NanosBuilder:
    """Builds images into a store; implements `images.builder.Builder`.

    Args:
        store: Where images go.
        cache: Folder for packages and roots; may be deleted at any time.
        lock: The hashed lock file that pins the sidecar's packages.
        signing_key: Signs what is built; the store must trust it.
        environment: Where `PATH`, `OPS_HOME` and `NANOS_DIR` are looked up.
        tools: Folder for an `ops` that Go brings.
    """

    def __init__(
        self,
        store: FolderImageStore,
        cache: Path,
        lock: Path,
        signing_key: SigningKey,
        environment: Mapping[str, str],
        tools: Path,
    ) -> None:
        self._store = store
        self._parts = Parts(cache, lock)
        self._records = BuildRecords(cache, store, signing_key)
        self._environment = environment
        self._tools = tools

    def build(
        self, name: str, definition: ImageDefinition, folder: Path, report: Report
    ) -> tuple[str, bool]:
        """The image's digest, and whether anything had to be built.

        Raises:
            ImageError: It cannot be built; nothing half done is left.
        """
        refuse_what_nanos_cannot_run(folder.name, definition)
        kernel = ops.find_kernel(self._environment)
        with building(name, self._parts.cache):
            program = ops.find_ops(self._environment, self._tools, report)
            with self._parts.alone(report), self._store.holding():
                return self._build(name, definition, folder, kernel, program, report)

    def _build(
        self,
        name: str,
        definition: ImageDefinition,
        folder: Path,
        kernel: ops.NanosKernel,
        program: Path,
        report: Report,
    ) -> tuple[str, bool]:
        report("asking apt for versions")
        versions = self._parts.versions((), definition.program.wheels)
        inputs = digest_of(
            *(RECIPE, "nanos", name, definition),
            *(versions.python, versions.requirements, versions.wheels),
            *(path.read_bytes() for path in (program, kernel.kernel, kernel.boot)),
            *(label.encode() + path.read_bytes() for label, path in sidecar_sources()),
            *inputs_of(definition, folder),
        )
        if (known := self._records.find(inputs)) is not None:
            return known, False
        with self._parts.scratch("nanos") as work:
            home = work / "home"
            self._fill(home, definition, folder, versions, report, work)
            report("running ops")
            made = ops.create_disk(program, kernel, package_manifest(), home)
            write_in_order(made, work / "disk")
            report("storing")
            disk = self._store.put_file(work / "disk")
        manifest = Manifest(
            name=name,
            architecture=ARCHITECTURE,
            boot=NanosBoot(disk),
            memory_mib=definition.memory_mib,
            guest_port=definition.port,
            health_interval_seconds=definition.health.interval_seconds,
            stateful=definition.stateful,
        )
        return self._records.keep(inputs, manifest), True

    def _fill(
        self,
        home: Path,
        definition: ImageDefinition,
        folder: Path,
        versions: Versions,
        report: Report,
        work: Path,
    ) -> None:
        """Make a home for `ops` with the guest's files: Python, sidecar, application, settings."""
        root = self._parts.python_root(versions, report)
        report("preparing the application")
        application = work / "application"
        application.mkdir()
        filled = Application(definition, folder, self._parts, versions, report).fill(
            root, frozenset(), application
        )
        ops.prepare_home(home)
        files = ops.files_folder(home)
        sidecar = work / "sidecar"
        starts = ("sappers.sidecar.unikernel", "sappers.sidecar.unikernel_guest")
        lay_sidecar(root, sidecar, *starts)
        for source in (root, application / "new", application / CARRIED, sidecar):
            if source.exists():
                shutil.copytree(source, files, symlinks=True, dirs_exist_ok=True)
        settings = json.dumps(guest_settings(definition, filled), sort_keys=True)
        for place, text in {**_FILES, "etc/sappers/guest.json": settings}.items():
            (files / place).parent.mkdir(parents=True, exist_ok=True)
            (files / place).write_text(text)
        (files / "tmp").mkdir()


def refuse_what_nanos_cannot_run(name: str, definition: ImageDefinition) -> None:
    """Nothing, for an application that can share its process with the sidecar.

    Raises:
        ImagePartError: It cannot; says why, and what to do.
    """
    program = definition.application
    if program is None:
        raise ImagePartError(f"{name} has no [application], which a unikernel runs", key="kinds")
    if program.module is None and program.script is None:
        kind = ", ".join(program.programs) or "nothing"
        raise ImagePartError(
            f"{name} cannot be a Nanos unikernel: it has one process, which is the sidecar's "
            f"Python, and the application ({kind}) is a program of its own",
            key="kinds",
            hint=f"build it as a micro-VM: sappers-deploy image build {name} --kind microvm",
        )
    if program.packages:
        raise ImagePartError(
            f"{name} cannot be a Nanos unikernel: Debian packages ({', '.join(program.packages)}) "
            "are for Linux guests",
            key="application.packages",
            hint=f"build it as a micro-VM: sappers-deploy image build {name} --kind microvm",
        )


def package_manifest() -> dict[str, Any]:
    """What `ops` is told of the program, as its package manifests have it."""
    return {
        "Program": f"/{INTERPRETER}",
        "Args": [f"/{INTERPRETER}", "-IS", "/init.py"],
        "Env": {"LANG": "C.UTF-8"},
    }


def guest_settings(definition: ImageDefinition, filled: Filled) -> dict[str, Any]:
    """What `sidecar.settings.load_image_settings` reads in the guest."""
    return {
        "application": filled.name,
        "in_process": definition.program.in_process,
        "preload": filled.preload,
        "environment": {**filled.environment, **definition.environment},
        "check": definition.check_settings(filled.port),
        "launch": filled.launch,
    }
