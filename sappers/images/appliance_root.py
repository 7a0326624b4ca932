"""The files that an appliance begins with: a Debian root as one tar, made by mmdebstrap.

Invariant: a root that is there is whole, and named for all that it is made of. It is the same, byte
for byte, whenever the same packages are put together again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from sappers.durable import keep_durably
from sappers.errors import ImageError
from sappers.images.debian import Package, mistaken_packages, printed_packages
from sappers.images.programs import plain_environment, run_guarded

SUITE = "bookworm"
# Every file is this old at most (2023-11-14), so that when a root was made does not show.
EPOCH_SECONDS = 1_700_000_000
# What an appliance needs to boot, to be reached and to be prepared; the agent's come beside it.
PACKAGES = (
    "apt", "ca-certificates", "dbus", "e2fsprogs", "fdisk", "initramfs-tools", "iproute2", "kmod",
    "libpam-systemd", "lz4", "netbase", "openssh-server", "procps", "python3", "systemd",
    "systemd-boot-efi", "systemd-resolved", "systemd-sysv", "systemd-timesyncd", "udev",
)  # fmt: skip
_NO_DOCUMENTS = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
)
# LZ4 unpacks fastest; set before the kernel's package makes its initramfs.
_BEFORE = """set -eu
mkdir -p "$1/etc/initramfs-tools/conf.d"
echo COMPRESS=lz4 > "$1/etc/initramfs-tools/conf.d/sappers"
"""
# What belongs to one machine goes, for it is random: each makes its own.
_AFTER = """set -eu
chroot "$1" systemctl --quiet enable systemd-networkd.service systemd-resolved.service \
    systemd-timesyncd.service ssh.service
chroot "$1" systemctl --quiet mask e2scrub_all.timer e2scrub_reap.service
rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/*-
: > "$1/etc/machine-id"
echo appliance > "$1/etc/hostname"
printf '127.0.0.1\\tlocalhost\\n::1\\tlocalhost\\n' > "$1/etc/hosts"
ln -sfn ../run/systemd/resolve/stub-resolv.conf "$1/etc/resolv.conf"
"""
_SET = {
    "SOURCE_DATE_EPOCH": str(EPOCH_SECONDS),
    "LC_ALL": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",  # by imports; packages have their modules compiled
}
_END_SECONDS = 10.0
_RECIPE = (SUITE, tuple(_SET.items()), _NO_DOCUMENTS, _BEFORE, _AFTER)


class Archive(msgspec.Struct, frozen=True):
    """Where this machine's apt gets Debian from.

    Attributes:
        sources: `deb …` lines of the suite.
        apt_options: Lines of an apt.conf that decide whether it can be reached and believed.
    """

    sources: tuple[str, ...]
    apt_options: tuple[str, ...] = ()


def resolve_closure(names: Sequence[str], keys: Mapping[str, str]) -> tuple[Package, ...]:
    """Every package that a new root with these would get now, dependencies too, by file.

    Args:
        names: Packages.
        keys: Where the definition names which of them.

    Raises:
        ImagePartError: apt does not know one that the definition names.
        ImageError: It does not know another, or knows nothing.
    """
    try:
        done = _run(
            "apt-get", "-q", "--print-uris", "-o", "Dir::State::status=/dev/null",
            "--no-install-recommends", "install", "?essential", *names,
        )  # fmt: skip
    except ImageError as error:
        if mistake := mistaken_packages(error, keys):
            raise mistake from error
        raise
    return printed_packages(done)


def root_recipe(packages: Sequence[Package]) -> tuple[object, ...]:
    """All that decides what a root is, for a digest."""
    return (*_RECIPE, *packages)


def build_root(names: Sequence[str], archive: Archive, target: Path, scratch: Path) -> None:
    """Make `target` the root with these packages, as a tar.

    Args:
        names: Packages.
        archive: Where they come from.
        target: The file.
        scratch: A folder on the same disk; what is made in it does not stay, however this ends.

    Raises:
        ImageError: mmdebstrap is not here, or cannot; carries the end of what it said.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="root-") as place:
        work = Path(place)
        sources, made = work / "sources.list", work / "root.tar"
        sources.write_text("".join(f"{line}\n" for line in archive.sources))
        command = (
            "mmdebstrap", "--variant=minbase", "--quiet", f"--include={','.join(names)}",
            *(f"--aptopt={line}" for line in archive.apt_options),
            *(f"--dpkgopt={line}" for line in _NO_DOCUMENTS),
            f"--essential-hook={_BEFORE}", f"--customize-hook={_AFTER}",
            SUITE, str(made), str(sources),
        )  # fmt: skip
        _bootstrap(command, work)
        keep_durably(made, target)


def _bootstrap(command: Sequence[str], work: Path) -> None:
    if shutil.which(command[0]) is None:
        raise ImageError(f"{command[0]} is not here", hint="run `make setup`")
    environment = plain_environment(**_SET)
    if os.geteuid() == 0:
        # Its own mount namespace: a build that is killed leaves no mount behind.
        apart = ("unshare", "--mount", "--propagation", "private")
        command = (*apart, *command, "--mode=root")
        environment |= {"TMPDIR": str(work)}
    else:
        command = (*command, "--mode=unshare")  # its users could not enter our folder
    code, said = run_guarded(
        command, environment=environment, scratch=work, grace_seconds=_END_SECONDS
    )
    if code != 0:
        raise _failure("mmdebstrap", said)


def _run(*command: str) -> str:
    try:
        done = subprocess.run(
            command, env=plain_environment(**_SET), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ImageError(f"{error.filename} is not here", hint="run `make setup`") from error
    if done.returncode != 0:
        raise _failure(command[0], done.stderr.strip() or done.stdout)
    return done.stdout


def _failure(program: str, said: str) -> ImageError:
    tail = said.strip()[-1000:]
    return ImageError(f"{program} failed: {tail}", hint="can this machine's apt reach Debian?")
