"""Builds appliances: Packer boots a Debian disk and installs the agent over SSH.

A disk that has booted is never the same twice, byte for byte. So the machine gives its files as a
tar, without what was born with it, and of these a disk is made that never ran: the same packages,
agent, files and template make the same image.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from sappers.errors import ImageError
from sappers.images import appliance_disk, appliance_root
from sappers.images.appliance_root import Archive
from sappers.images.build_records import BuildRecords, building
from sappers.images.builder import Report
from sappers.images.debian import Package
from sappers.images.definition import ApplianceDefinition, ImageDefinition
from sappers.images.one_build import one_build
from sappers.images.programs import guarded, plain_environment
from sappers.images.store import FolderImageStore
from sappers.model.image import ARCHITECTURE, ApplianceBoot, Manifest
from sappers.security.signing import SigningKey

RECIPE = "2"  # raise it when this builder's output changes for the same inputs
TEMPLATES = "*.pkr.hcl"
PLUGINS = "plugins"  # folder of templates that only Packer 1.7 and newer read
OVERLAY = "root"
_PLUGINS_SINCE = (1, 7)
_BUILD_SECONDS = 900.0
_END_SECONDS = 60.0
_ROOTS_KEPT = 3
_NO_QUESTIONS = {"CHECKPOINT_DISABLE": "1"}
_PLUGIN = re.compile(r"\* (\S+/\S+/\S+)")
_STEP = re.compile(r"^(?:==> |    )[\w.]+: (?P<text>.+)$")


class AgentKit(msgspec.Struct, frozen=True):
    """What installs the agent on a host, as bootstrap does it.

    Attributes:
        bundle: The agent as one file.
        version: The folder below the install folder that it is unpacked to.
        unit: Its systemd unit.
        unpack: Shell script that unpacks it: interpreter, bundle, folder.
        packages: Debian packages that it needs.
    """

    bundle: Path
    version: str
    unit: bytes
    unpack: str
    packages: tuple[str, ...]


class ApplianceBuilder:
    """Builds appliances into a store; satisfies `builder.Builder`.

    Args:
        store: Where images go.
        signing_key: Signs them.
        cache: Folder for roots and scratch; may be deleted at any time.
        agent: The agent to install; waits until its bundle is built.
        archive: Where this machine's apt gets Debian from.
        accelerator: QEMU's, for the boot during the build.
    """

    def __init__(
        self,
        store: FolderImageStore,
        signing_key: SigningKey,
        cache: Path,
        *,
        agent: Callable[[Report], AgentKit],
        archive: Callable[[], Archive],
        accelerator: Callable[[], str],
    ) -> None:
        self._store = store
        self._records = BuildRecords(cache, store, signing_key)
        self._cache = cache
        self._agent = agent
        self._archive = archive
        self._accelerator = accelerator

    def build(
        self, name: str, definition: ImageDefinition, folder: Path, report: Report
    ) -> tuple[str, bool]:
        """As `Builder.build` says; the first build takes minutes, most of them Debian's and QEMU's.

        Raises:
            ImageError: A tool is missing or fails, or the disk is full.
        """
        if definition.appliance is None:
            raise ImageError(f"{name}: an appliance's definition needs an [appliance] table")
        alone = one_build(self._cache, "appliance.lock", self._scratch, report)
        with building(name, self._cache), alone:
            return self._build(name, definition, definition.appliance, folder, report)

    def _build(
        self,
        name: str,
        definition: ImageDefinition,
        appliance: ApplianceDefinition,
        folder: Path,
        report: Report,
    ) -> tuple[str, bool]:
        agent = self._agent(report)
        report("asking apt for versions")
        names = wanted_packages(appliance, agent)
        packages = appliance_root.resolve_closure(names, named_packages(appliance))
        inputs = _input_digest(name, definition, folder, packages, agent)
        if (known := self._records.find(inputs)) is not None:
            return known, False
        version = packer_version()
        with tempfile.TemporaryDirectory(
            dir=self._scratch, prefix="appliance-", ignore_cleanup_errors=True
        ) as scratch:
            work = Path(scratch)
            template = prepare_template(folder, work / "template", version)
            if version >= _PLUGINS_SINCE:
                require_plugins(template, packer_environment(work))
            root = self._root(names, packages, report)

            def disk_of(root: Path, overlay: Path | None, place: str) -> Path:
                mib = appliance.disk_mib
                return appliance_disk.build_disk(root, overlay, mib, inputs, work / place)

            report("making a disk of it")
            first = disk_of(root, folder / OVERLAY, "first")
            report("booting it")
            ready = self._run_packer(template, first, work, agent, definition.memory_mib, report)
            report("making a disk of what it became")
            disk = disk_of(ready, None, "disk")
            report("storing")
            return self._keep(name, inputs, disk, definition.memory_mib), True

    def _keep(self, name: str, inputs: str, disk: Path, memory_mib: int) -> str:
        """Store a disk; its image's digest. Nobody prunes between its chunks and its manifest."""
        with self._store.holding():
            manifest = Manifest(
                name=name,
                architecture=ARCHITECTURE,
                boot=ApplianceBoot(disk=self._store.put_file(disk)),
                memory_mib=memory_mib,
            )
            return self._records.keep(inputs, manifest)

    def _root(self, names: Sequence[str], packages: Sequence[Package], report: Report) -> Path:
        """The root's tar, made once for each set of packages."""
        key = _digest(appliance_root.root_recipe(packages))
        ready = self._cache / "appliance-roots" / f"{key}.tar"
        if not ready.exists():
            report("putting Debian packages together (minutes, once)")
            appliance_root.build_root(names, self._archive(), ready, self._scratch)
            roots = sorted(ready.parent.glob("*.tar"), key=lambda path: path.stat().st_mtime)
            for old in roots[:-_ROOTS_KEPT]:
                old.unlink()
        return ready

    def _run_packer(
        self,
        template: Path,
        disk: Path,
        work: Path,
        agent: AgentKit,
        memory_mib: int,
        report: Report,
    ) -> Path:
        """The root that the machine hands out when all is installed, as a tar."""
        (work / "sappers.service").write_bytes(agent.unit)
        (work / "unpack").write_text(agent.unpack)
        key, credential = _make_key(work)
        root, booted = work / "root.tar", work / "booted"
        values = {
            "disk": str(disk),
            "output": str(booted),
            "root": str(root),
            "agent": str(agent.bundle),
            "version": agent.version,
            "unit": str(work / "sappers.service"),
            "unpack": str(work / "unpack"),
            "key": str(key),
            "credential": credential,
            "accelerator": self._accelerator(),
            "memory_mib": str(memory_mib),
        }
        command = ["packer", "build", "-color=false", *variable_options(values), "."]
        environment = packer_environment(work)
        ended, output = _follow(command, template, work, environment, report)
        if ended != 0:
            serial = template / "serial.log"
            console = serial.read_text(errors="replace")[-500:] if serial.exists() else ""
            raise ImageError(
                f"packer ended with exit code {ended}: {output[-1500:].strip()}",
                hint=f"the machine's console said last: {console.strip()}" if console else None,
            )
        shutil.rmtree(booted, ignore_errors=True)
        if not root.exists() or not root.stat().st_size:
            raise ImageError(
                "packer ended well, but the machine handed out no root",
                hint="provision/seal.sh of images/packer/appliance does it",
            )
        return root

    @property
    def _scratch(self) -> Path:
        return self._cache / "appliance-scratch"


def wanted_packages(appliance: ApplianceDefinition, agent: AgentKit) -> tuple[str, ...]:
    """Every package asked for, once, by name."""
    asked = {*appliance_root.PACKAGES, *agent.packages, appliance.kernel, *appliance.packages}
    return tuple(sorted(asked))


def named_packages(appliance: ApplianceDefinition) -> dict[str, str]:
    """Where the definition names which package."""
    named = dict.fromkeys(appliance.packages, "appliance.packages")
    return named | {appliance.kernel: "appliance.kernel"}


def packer_version() -> tuple[int, ...]:
    """Packer's version, `(1, 6, 6)`.

    Raises:
        ImageError: It is not installed.
    """
    try:
        done = subprocess.run(
            ["packer", "version"],
            env=plain_environment(**_NO_QUESTIONS),
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise ImageError(
            "packer is not here", hint="run `make setup`, or put a newer one into PATH"
        ) from error
    found = re.search(r"Packer v(\d+)\.(\d+)\.(\d+)", done.stdout)
    if found is None:
        # A file server's and a password library's programs have the same name.
        raise ImageError("`packer version` does not say what Packer says", hint="is it Packer?")
    return tuple(int(part) for part in found.groups())


def prepare_template(folder: Path, target: Path, version: tuple[int, ...]) -> Path:
    """A copy of a definition's template as this version of Packer reads it.

    Raises:
        ImageError: There is no template.
    """
    templates = sorted(folder.glob(TEMPLATES))
    if not templates:
        raise ImageError(f"{folder} has no {TEMPLATES}", hint="images/packer/appliance has one")
    target.mkdir(parents=True)
    if version >= _PLUGINS_SINCE:
        templates += sorted((folder / PLUGINS).glob(TEMPLATES))
    for template in templates:
        shutil.copyfile(template, target / template.name)
    if (folder / "provision").is_dir():
        shutil.copytree(folder / "provision", target / "provision")
    return target


def require_plugins(template: Path, environment: Mapping[str, str]) -> None:
    """See that Packer has what the template requires; it takes a second, a build's start minutes.

    Raises:
        ImageError: A plugin is not here.
    """
    # Without values for the variables it fails in any case, but it looks for plugins first.
    done = subprocess.run(
        ["packer", "validate", "."],
        cwd=template,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    _, found, missing = done.stdout.partition("Missing plugins")
    if names := _PLUGIN.findall(missing):
        raise ImageError(
            f"this Packer lacks what the template requires: {', '.join(names)}",
            hint=f"`packer plugins install {names[0]}` brings it; docs/appliance.md says how "
            "without a network",
        )
    if found:
        raise ImageError(f"packer: Missing plugins{missing.rstrip()[:500]}")


def variable_options(values: Mapping[str, str]) -> list[str]:
    """Packer's options that set the template's variables."""
    return [part for name, value in values.items() for part in ("-var", f"{name}={value}")]


def packer_environment(work: Path) -> dict[str, str]:
    """What Packer runs with: its cache in `work`, and no question to its makers for updates.

    Values of variables (`PKR_VAR_…`) and the caller's SSH agent, which Packer would hand on to the
    machine, are not of it.
    """
    return plain_environment(
        keep=r"PACKER_\w+|XDG_CONFIG_HOME",  # where its plugins are, and what it logs
        **_NO_QUESTIONS,
        PACKER_CACHE_DIR=str(work / "packer-cache"),
        TMPDIR=str(work),
    )


def _follow(
    command: list[str],
    folder: Path,
    scratch: Path,
    environment: Mapping[str, str],
    report: Report,
) -> tuple[int, str]:
    """Run Packer; its exit code and the end of what it said. It ends, with its QEMU, as we do."""
    lines: list[str] = []
    with guarded(
        command,
        folder=folder,
        environment=environment,
        scratch=scratch,
        limit_seconds=_BUILD_SECONDS,
        grace_seconds=_END_SECONDS,  # asked to, Packer ends QEMU and removes what it made
    ) as packer:
        assert packer.stdout is not None
        for line in packer.stdout:
            lines = [*lines[-60:], line]
            if step := _STEP.match(line.rstrip()):
                report(step["text"][:70])
        return packer.wait(), "".join(lines)


def _make_key(work: Path) -> tuple[Path, str]:
    """A key pair for one build: the private half's file, the public half in base64."""
    key = work / "key"
    # Packer 1.6.6 logs in with RSA or NIST curves as well; a P-256 key suits old and new.
    command = ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "256", "-m", "PEM", "-N", "", "-C", "build"]
    done = subprocess.run([*command, "-f", str(key)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ImageError(f"ssh-keygen failed: {done.stderr.strip()[-300:]}")
    return key, base64.b64encode(key.with_suffix(".pub").read_bytes()).decode()


def _input_digest(
    name: str,
    definition: ImageDefinition,
    folder: Path,
    packages: Sequence[Package],
    agent: AgentKit,
) -> str:
    files = [
        (str(path.relative_to(folder)), path.stat().st_mode & 0o111, _content(path))
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    ]
    return _digest(
        RECIPE,
        name,
        definition,
        appliance_root.root_recipe(packages),
        (agent.version, agent.unit, agent.unpack, agent.packages),
        files,
    )


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(*parts: object) -> str:
    found = hashlib.sha256()
    for part in parts:
        block = msgspec.json.encode(part, order="sorted")
        found.update(b"%d:" % len(block) + block)
    return found.hexdigest()
