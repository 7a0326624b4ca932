"""The agent as one file: a PEX with every wheel it needs, for every Python it may meet.

Invariant: the same inputs (lock file, sources, Pythons, PEX version) give the same bytes, so a
host that has the digest has the agent, and nothing is pushed or unpacked twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import msgspec

from sappers.errors import SappersError

PYTHON_MINORS = (11, 12, 13)
_GLIBC_MINOR = 28
# A run that is under way may still be sending the one before the newest.
_BUNDLES_KEPT = 4
_EPOCH = "315532800"  # 1980-01-01, the first day that a zip file knows


class BundleError(SappersError):
    """The agent cannot be put into one file."""


class Bundle(msgspec.Struct, frozen=True):
    """A built agent.

    Attributes:
        digest: SHA-256 of the file, 64 hex digits.
    """

    path: Path
    digest: str
    size_bytes: int


class AgentSources(msgspec.Struct, frozen=True):
    """What an agent is built from: a checkout of this project."""

    root: Path

    @property
    def lock(self) -> Path:
        """Every dependency, pinned and hashed."""
        return self.root / "requirements" / "agent.lock"

    @property
    def package(self) -> Path:
        """The code."""
        return self.root / "sappers"

    def files(self) -> Iterator[Path]:
        """Every file that ends up in the bundle, in a stable order."""
        for path in sorted(self.package.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def find_sources(package: Path) -> AgentSources:
    """The checkout that the running package (its folder) belongs to.

    Raises:
        BundleError: It was not installed from a checkout.
    """
    sources = AgentSources(package.parent)
    if not sources.lock.is_file():
        raise BundleError(
            f"{sources.lock}: no such file; the agent is built from a checkout, and this "
            f"sappers-deploy was not installed from one",
            hint="in a checkout: python3 -m venv .venv && .venv/bin/pip install -e '.[deploy]'",
        )
    return sources


def build_bundle(
    sources: AgentSources, cache: Path, report: Callable[[str], None] = lambda _: None
) -> Bundle:
    """The agent's bundle, from the cache when its inputs are unchanged.

    Args:
        sources: What to build.
        cache: Folder for bundles and wheels; may be deleted at any time.
        report: Told what is going on, for things that take seconds.

    Raises:
        BundleError: A tool failed (its output is in the message) or the disk is full.
    """
    target = cache / f"{_input_digest(sources)[:16]}.pex"
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(cache / "lock"):
            _sweep(cache)
            if not target.is_file():
                report("collecting the agent's wheels")
                wheels = _collect_wheels(sources.lock, cache)
                report("building the agent's bundle")
                _build_pex(sources, wheels, target)
        with target.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Bundle(target, digest, target.stat().st_size)
    except OSError as error:
        raise BundleError(f"{cache}: {error}", hint="make room, or set SAPPERS_CACHE") from error


def _scratch(cache: Path, prefix: str) -> tempfile.TemporaryDirectory[str]:
    """A folder for the time of a build; what an interrupted one leaves is swept by the next."""
    return tempfile.TemporaryDirectory(dir=cache, prefix=prefix, ignore_cleanup_errors=True)


def _sweep(cache: Path) -> None:
    """Remove what killed builds left, and all but the newest bundles. Under the lock."""
    for leftover in (*cache.glob(".pex-*"), *cache.glob(".wheels-*")):
        shutil.rmtree(leftover, ignore_errors=True)
    bundles = sorted(cache.glob("*.pex"), key=lambda path: path.stat().st_mtime)
    for old in bundles[:-_BUNDLES_KEPT]:
        old.unlink()


def _input_digest(sources: AgentSources) -> str:
    digest = hashlib.sha256(_wheels_key(sources.lock).encode())
    for path in sources.files():
        digest.update(f"{path.relative_to(sources.root)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _wheels_key(lock: Path) -> str:
    inputs = json.dumps([version("pex"), PYTHON_MINORS, _GLIBC_MINOR])
    return hashlib.sha256(lock.read_bytes() + inputs.encode()).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _collect_wheels(lock: Path, cache: Path) -> Path:
    """A folder with every wheel of the lock file, for each Python; checked against its hashes."""
    folder = cache / f"wheels-{_wheels_key(lock)[:16]}"
    if folder.is_dir():
        return folder
    with _scratch(cache, ".wheels-") as scratch:
        beside = Path(scratch) / "wheels"
        for minor in PYTHON_MINORS:
            wanted = _without_universal(lock.read_text(), beside)
            requirements = Path(scratch) / "requirements.txt"
            requirements.write_text(wanted)
            _download(requirements, beside, minor)
            _build_source_packages(beside)
        beside.rename(folder)
    return folder


def _without_universal(lock: str, have: Path) -> str:
    """The lock without the packages whose wheel, already there, serves every Python."""
    universal = {
        wheel.name.split("-")[0].lower().replace("_", "-")
        for wheel in have.glob("*.whl")
        if "-abi3-" in wheel.name or "-none-" in wheel.name
    }
    blocks = lock.replace("\\\n", "\\\r").splitlines(keepends=False)
    kept = [block for block in blocks if block.split("==")[0] not in universal]
    return "\n".join(kept).replace("\\\r", "\\\n") + "\n"


def _download(requirements: Path, into: Path, minor: int) -> None:
    if "==" not in requirements.read_text():
        return
    tags = [
        *(f"manylinux_2_{n}_x86_64" for n in range(_GLIBC_MINOR, 4, -1)),
        "manylinux2014_x86_64",
    ]
    platforms = [argument for tag in tags for argument in ("--platform", tag)]
    _tool(
        "pip", "download", "--quiet", "--no-deps", "--prefer-binary", "--require-hashes",
        "--no-build-isolation", "--requirement", str(requirements), *platforms,
        "--python-version", f"3.{minor}", "--implementation", "cp", "--dest", str(into),
    )  # fmt: skip


def _build_source_packages(folder: Path) -> None:
    """Turn packages that come as source only into wheels; they must be pure Python.

    What builds them is of the lock file, too: in isolation pip would fetch the newest, unchecked.
    """
    for source in (*folder.glob("*.tar.gz"), *folder.glob("*.zip")):
        _tool(
            "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
            "--wheel-dir", str(folder), str(source),
        )  # fmt: skip
        source.unlink()


def _build_pex(sources: AgentSources, wheels: Path, target: Path) -> None:
    with _scratch(target.parent, ".pex-") as scratch:
        folder = Path(scratch)
        requirements = folder / "requirements.txt"
        requirements.write_text(_names(sources.lock.read_text()))
        arguments: list[str] = []
        for minor in PYTHON_MINORS:
            platform = folder / f"cp3{minor}.json"
            platform.write_text(json.dumps(complete_platform(minor)))
            arguments += ["--complete-platform", str(platform)]
        tree = folder / "tree" / "sappers"
        shutil.copytree(sources.package, tree, ignore=shutil.ignore_patterns("__pycache__"))
        for path in tree.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # and not as the checkout has them
        built = folder / "agent.pex"
        _tool(
            "pex", "--pex-root", str(folder / "root"), "--pre-resolved-dists", str(wheels),
            "--requirement", str(requirements), *arguments, "--sources-directory",
            str(tree.parent), "--include-tools", "--no-compile", "--no-use-system-time",
            "--no-pre-install-wheels", "--python-shebang", "#!/usr/bin/env python3",
            "--entry-point", "sappers.cli.agent:main", "--output-file", str(built),
        )  # fmt: skip
        with built.open("rb") as file:
            os.fsync(file.fileno())
        built.rename(target)


def _names(lock: str) -> str:
    """The lock's `name==version ; marker` lines, without hashes and comments."""
    lines = (line.rstrip("\\ ") for line in lock.splitlines() if "==" in line)
    return "\n".join(line for line in lines if not line.startswith((" ", "#"))) + "\n"


def complete_platform(minor: int) -> dict[str, object]:
    """What PEX wants to know of CPython 3.`minor` on a 64-bit PC with glibc 2.28 or newer."""
    linux = [f"manylinux_2_{glibc}_x86_64" for glibc in range(_GLIBC_MINOR, 4, -1)]
    linux += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    tags = [f"cp3{minor}-cp3{minor}-{tag}" for tag in linux]
    tags += [f"cp3{older}-abi3-{tag}" for older in range(minor, 1, -1) for tag in linux]
    tags += [f"py3-none-{tag}" for tag in linux]
    markers = {
        "implementation_name": "cpython",
        "implementation_version": f"3.{minor}.0",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"3.{minor}.0",
        "python_version": f"3.{minor}",
        "sys_platform": "linux",
    }
    return {
        "path": "/usr/bin/python3",
        "compatible_tags": [*tags, f"cp3{minor}-none-any", "py3-none-any"],
        "marker_environment": markers,
    }


def _tool(module: str, *arguments: str) -> None:
    command: Sequence[str] = (sys.executable, "-m", module, *arguments)
    environment = os.environ | {"SOURCE_DATE_EPOCH": _EPOCH, "PYTHONHASHSEED": "0"}
    # Wheels keep the modes of their files: whatever the caller's umask is, they are the same.
    done = subprocess.run(
        command, env=environment, umask=0o022, capture_output=True, text=True, check=False
    )
    if done.returncode:
        output = (done.stdout + done.stderr).strip()[-2000:]
        raise BundleError(
            f"`{module} {arguments[0]}` ended with exit code {done.returncode}: {output}",
            hint="the first build needs the package index; later ones work from the cache",
        )
