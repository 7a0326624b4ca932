"""Debian packages as raw material: fetched and verified by apt, unpacked, never installed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import unquote

import msgspec

from sappers.errors import ImageError, ImagePartError
from sappers.images.programs import plain_environment, run_guarded

_URI_LINE = re.compile(r"^'[^']+' (?P<file>\S+) \d+ ?(?P<digest>\S*)", re.M)
_UNKNOWN = re.compile(
    r"E: (?:Unable to locate package |Package ')([^\s']+)(?:' has no installation candidate)?$",
    re.M,
)
_AT_ODDS = "you have held broken packages"
_UPDATE_HINT = "run `apt-get update`; images are built on Debian 12 (bookworm, amd64)"
_FULL_HINT = "free some space and repeat"


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
    packages = printed_packages(text)
    if len(packages) != len(set(names)):
        missing = sorted(set(names) - {package.name for package in packages})
        raise ImageError(f"apt has no file for {', '.join(missing)}", hint=_UPDATE_HINT)
    return packages


def with_dependencies(names: Sequence[str], work: Path) -> tuple[str, ...]:
    """The names of these packages and of all they depend on, as apt would install them.

    What only maintainer scripts need is taken for installed, for these do not run.

    Args:
        names: Packages.
        work: A folder for scratch.

    Raises:
        ImagePartError: apt does not know one, or they exclude each other.
    """
    installed = work / "status"
    installed.write_text("".join(_as_installed(name) for name in _SCRIPTED if name not in names))
    try:
        text = _run(
            *("apt-get", *_OPTIONS, "-o", f"Dir::State::status={installed}"),
            *("-o", "Debug::NoLocking=1", "-o", "APT::Install-Recommends=false"),
            *("-o", f"Dir::State::extended_states={work}/extended"),
            *("--print-uris", "install", *names),
        )
    except ImageError as error:
        if mistake := mistaken_packages(error, dict.fromkeys(names, "application.packages")):
            raise mistake from error
        raise
    return tuple(sorted({package.name for package in printed_packages(text)}))


def printed_packages(text: str) -> tuple[Package, ...]:
    """What apt says that it would fetch (`--print-uris`), by name of the file."""
    found = {match["file"]: match["digest"] for match in _URI_LINE.finditer(text)}
    return tuple(Package(file, digest) for file, digest in sorted(found.items()))


def mistaken_packages(error: ImageError, keys: Mapping[str, str]) -> ImagePartError | None:
    """What an answer of apt says of a definition's packages; None when it is not about them.

    Args:
        error: Has the end of what apt said.
        keys: Where the definition names which package.
    """
    unknown = sorted(set(_UNKNOWN.findall(error.message)))
    key = next((keys[name] for name in unknown if name in keys), None)
    if key is not None:
        message = f"apt knows no package {', '.join(unknown)}"
        return ImagePartError(message, key=key, hint=_UPDATE_HINT)
    if _AT_ODDS in error.message and keys:
        message = f"apt cannot have all of these at once: {', '.join(sorted(keys))}"
        hint = (
            "one may exclude another, or need what is not to be had: `apt-get -s install` says it"
        )
        return ImagePartError(message, key=next(iter(keys.values())), hint=hint)
    return None


_SCRIPTED = (
    *("adduser", "debconf", "dpkg", "init-system-helpers", "lsb-base", "mount", "passwd"),
    *("procps", "sysvinit-utils", "tar", "ucf", "usrmerge"),
)


def _as_installed(name: str) -> str:
    provides = "Provides: debconf-2.0\n" if name == "debconf" else ""
    return (
        f"Package: {name}\nStatus: install ok installed\nVersion: 99:99\nArchitecture: all\n"
        f"Multi-Arch: foreign\n{provides}Maintainer: none <none@localhost>\nDescription: -\n\n"
    )


def fetch(packages: Sequence[Package], folder: Path, work: Path) -> None:
    """Make every package file be in `folder`; apt checks their hashes.

    Args:
        packages: Which.
        folder: Made when it is not there.
        work: An empty folder for scratch, on the same disk.

    Raises:
        ImageError: One cannot be fetched, or the disk is full.
    """
    absent = [package for package in packages if not (folder / package.file).exists()]
    if not absent:
        return
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [f"{package.name}={package.version}" for package in absent]
    command = ("apt-get", *_OPTIONS, "download", *wanted)
    try:
        code, said = run_guarded(command, folder=work, environment=_english(), scratch=work)
    except FileNotFoundError as error:
        raise ImageError(f"{command[0]} is not here", hint=_UPDATE_HINT) from error
    if code != 0:
        raise _failure(command, said)
    os.sync()  # else a crash may leave the names of packages, and nothing in them
    for package in absent:
        (work / package.file).rename(folder / package.file)


@contextlib.contextmanager
def open_content(package: Path) -> Iterator[BinaryIO]:
    """A package file's content as an uncompressed tar, owners and permissions in it.

    Raises:
        ImageError: The file is damaged.
    """
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(package)],
        env=_english(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as unpacking:
        assert unpacking.stdout is not None
        yield cast("BinaryIO", unpacking.stdout)
        while unpacking.stdout.read(1 << 20):
            pass
    if unpacking.returncode != 0:
        raise ImageError(f"{package.name} is damaged", hint="remove it from the cache and repeat")


def unpack(package: Path, folder: Path) -> None:
    """Unpack a package file's content into `folder`.

    Raises:
        ImageError: The file is damaged or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _run("dpkg-deb", "--extract", str(package), str(folder))


# As root, apt would fetch as its own user, which may not write here.
_OPTIONS = ("-q", *(("-o", "APT::Sandbox::User=root") if os.geteuid() == 0 else ()))


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, env=_english(), capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ImageError(f"{command[0]} is not here", hint=_UPDATE_HINT) from error
    if done.returncode != 0:
        raise _failure(command, done.stderr or done.stdout)
    return done.stdout


def _english() -> dict[str, str]:
    """The environment in which apt says what is looked for in its words."""
    return plain_environment(LC_ALL="C.UTF-8")


def _failure(command: Sequence[str], said: str) -> ImageError:
    tail = said.strip()[-500:]
    hint = _FULL_HINT if os.strerror(errno.ENOSPC) in tail else _UPDATE_HINT
    return ImageError(f"`{' '.join(command[:6])} …` failed: {tail}", hint=hint)
