"""Debian packages as raw material: fetched and verified by apt, unpacked, never installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import msgspec

from sappers.errors import ImageError

_URI_LINE = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) ?(?P<digest>\S*)")
_UPDATE_HINT = "run `apt-get update`; images are built on Debian 12 (bookworm, amd64)"


class Package(msgspec.Struct, frozen=True):
    """One package file that apt would fetch.

    Attributes:
        file: File name with version and architecture.
        digest: The hash from the signed package lists, `SHA256:…`.
    """

    file: str
    digest: str

    @property
    def name(self) -> str:
        """The package's name."""
        return self.file.partition("_")[0]

    @property
    def version(self) -> str:
        """The package's version."""
        return unquote(self.file.split("_")[1])


def kernel_package() -> str:
    """The package with the newest cloud kernel.

    Raises:
        ImageError: apt knows none.
    """
    text = _run("apt-cache", "depends", "--important", "linux-image-cloud-amd64")
    if found := re.search(r"Depends: (linux-image-[\w.+-]+-cloud-amd64)", text):
        return found[1]
    raise ImageError("apt knows no linux-image-cloud-amd64", hint=_UPDATE_HINT)


def resolve(names: Sequence[str]) -> tuple[Package, ...]:
    """The files that apt would fetch for these packages now, by name.

    Raises:
        ImageError: apt does not know one.
    """
    text = _run("apt-get", *_OPTIONS, "--print-uris", "download", *names)
    found = [_URI_LINE.match(line) for line in text.splitlines()]
    packages = {match["file"]: Package(match["file"], match["digest"]) for match in found if match}
    if len(packages) != len(set(names)):
        missing = sorted(set(names) - {package.name for package in packages.values()})
        raise ImageError(f"apt has no file for {', '.join(missing)}", hint=_UPDATE_HINT)
    return tuple(packages[file] for file in sorted(packages))


def fetch(packages: Sequence[Package], folder: Path) -> None:
    """Make every package file be in `folder`; apt checks their hashes.

    Raises:
        ImageError: One cannot be fetched, or the disk is full.
    """
    absent = [package for package in packages if not (folder / package.file).exists()]
    if not absent:
        return
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".partial-{os.getpid()}"
    try:
        partial.mkdir()
        wanted = [f"{package.name}={package.version}" for package in absent]
        _run("apt-get", *_OPTIONS, "download", *wanted, folder=partial)
        for package in absent:
            (partial / package.file).rename(folder / package.file)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def unpack(package: Path, folder: Path) -> None:
    """Unpack a package file's content into `folder`.

    Raises:
        ImageError: The file is damaged or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _run("dpkg-deb", "--extract", str(package), str(folder))


# As root, apt would fetch as its own user, which may not write here.
_OPTIONS = ("-q", *(("-o", "APT::Sandbox::User=root") if os.geteuid() == 0 else ()))


def _run(*command: str, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ImageError(f"{command[0]} is not here", hint=_UPDATE_HINT) from error
    if done.returncode != 0:
        tail = (done.stderr or done.stdout).strip()[-500:]
        raise ImageError(f"`{' '.join(command[:6])} …` failed: {tail}", hint=_UPDATE_HINT)
    return done.stdout
