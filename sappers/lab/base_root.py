"""The root that every lab host begins with: a plain Debian server, made once and kept in the cache.

Invariant: a base root that is there is whole. It is built beside and renamed, under a lock, and
named for all that it is made of. It holds nothing that Sappers itself installs.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from sappers.errors import LabError

SUITE = "bookworm"
PACKAGES = (
    "ca-certificates", "cron", "dbus", "ifupdown", "iproute2", "iputils-ping", "kmod", "less",
    "libpam-systemd", "logrotate", "nano", "netbase", "nftables", "openssh-server", "procps",
    "python3", "sudo", "systemd", "systemd-sysv", "udev",
)  # fmt: skip

_SUITES = (SUITE, f"{SUITE}-updates", f"{SUITE}-security")
# Settings of this machine's apt that decide whether the archive can be reached and believed here.
_APT_NETWORK = ("Acquire::http", "Acquire::https")
_APT_TIME = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")
_NO_DOCUMENTS = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
)

# Runs on this machine with the new root as $1. Users: root (key only), admin (may become root
# without a password) and plain (may not). Nothing reaches out: no timers that download.
_CUSTOMIZE = r"""
set -eu
root=$1
in_root() { chroot "$root" "$@"; }
for user in admin plain; do
    in_root useradd --create-home --shell /bin/bash "$user"
    in_root install -d -m 0700 -o "$user" -g "$user" "/home/$user/.ssh"
done
install -d -m 0700 "$root/root/.ssh"
echo 'admin ALL=(ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/admin"
chmod 0440 "$root/etc/sudoers.d/admin"
printf '%s\n' 'PasswordAuthentication no' 'PermitRootLogin prohibit-password' 'UseDNS no' \
    'HostKey /etc/ssh/ssh_host_ed25519_key' > "$root/etc/ssh/sshd_config.d/lab.conf"
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/apt/apt.conf.d/99mmdebstrap"
: > "$root/etc/machine-id"
: > "$root/etc/resolv.conf"
echo force-unsafe-io > "$root/etc/dpkg/dpkg.cfg.d/lab"
in_root systemctl --quiet enable systemd-networkd.service
in_root systemctl --quiet mask systemd-networkd-wait-online.service networking.service \
    apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service \
    console-getty.service systemd-modules-load.service 2>/dev/null
"""


def base_root_key() -> str:
    """Names the content of the base root: any change to its recipe gives another key."""
    recipe = "\n".join((SUITE, *PACKAGES, *_NO_DOCUMENTS, *_APT_TIME, _CUSTOMIZE))
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def ensure_base_root(cache: Path, progress: Callable[[str], None]) -> Path:
    """The base root's folder; built first where it is missing (about 30 s).

    Raises:
        LabError: It cannot be built; carries the end of mmdebstrap's log.
    """
    root = cache / "lab" / f"base-{base_root_key()}"
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with (root.parent / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another process that builds the base root")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            progress("building the base root of lab hosts (once)")
            for old in root.parent.glob("building-*"):
                shutil.rmtree(old)
            _build(root, lock.fileno())
    return root


def _build(root: Path, lock: int) -> None:
    if shutil.which("mmdebstrap") is None:
        raise LabError("mmdebstrap is not installed", hint="run `make setup`")
    beside = Path(tempfile.mkdtemp(prefix="building-", dir=root.parent))
    try:
        hook, sources = beside / "customize", beside / "sources.list"
        hook.write_text(f"#!/bin/sh{_CUSTOMIZE}")
        hook.chmod(0o755)
        sources.write_text("".join(f"{line}\n" for line in debian_sources()))
        target = beside / "root"
        finished = subprocess.run(
            [
                # Its own mount namespace: a build that is killed leaves no mount behind.
                "unshare", "--mount", "--propagation", "private",
                "mmdebstrap", "--mode=root", "--variant=minbase", "--quiet",
                f"--include={','.join(PACKAGES)}",
                *(f"--aptopt={line}" for line in archive_settings()),
                *(f"--dpkgopt={line}" for line in _NO_DOCUMENTS),
                f"--customize-hook={hook}",
                SUITE, str(target), str(sources),
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False, pass_fds=(lock,),  # held while any part of the build lives
        )  # fmt: skip
        if finished.returncode:
            tail = finished.stdout.strip()[-1500:]
            raise LabError(
                f"mmdebstrap failed: {tail}", hint="can this machine's apt reach Debian?"
            )
        kept = "".join(f"{line}\n" for line in _apt_settings(_APT_TIME))
        (target / "etc/apt/apt.conf.d/90lab").write_text(kept)
        target.rename(root)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def debian_sources() -> tuple[str, ...]:
    """Debian's own `main` suites among this machine's apt sources, one `deb` line each.

    Raises:
        LabError: This machine's apt has none.
    """
    found = _indexed_sources()
    if not found:
        # The origin of a source is known once its index was fetched; others may fail meanwhile.
        subprocess.run(["apt-get", "-qq", "update"], stdin=subprocess.DEVNULL, check=False)
        found = _indexed_sources()
    if not found:
        raise LabError(
            f"this machine's apt knows no Debian {SUITE} archive",
            hint=f"Debian's own {SUITE} main must be in /etc/apt; then `apt-get update`",
        )
    return found


def archive_settings() -> tuple[str, ...]:
    """What lets this machine's apt reach and believe the archive, as lines of an apt.conf."""
    return _apt_settings(_APT_NETWORK + _APT_TIME)


def _indexed_sources() -> tuple[str, ...]:
    fields = ("$(ORIGIN)", "$(COMPONENT)", "$(CODENAME)", "$(REPO_URI)")
    listed = subprocess.run(
        ["apt-get", "indextargets", "Created-By: Packages", "--format", "|".join(fields)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    rows = (line.split("|") for line in listed.stdout.splitlines())
    lines = (
        f"deb {uri} {suite} main"
        for origin, component, suite, uri in rows
        if origin == "Debian" and component == "main" and suite in _SUITES
    )
    return tuple(dict.fromkeys(lines))


def _apt_settings(names: tuple[str, ...]) -> tuple[str, ...]:
    """This machine's apt settings at or below these names, as lines of an apt.conf."""
    dumped = subprocess.run(
        ["apt-config", "dump", "--format", '%f "%v";%n', *names],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return tuple(line for line in dumped.stdout.splitlines() if not line.endswith(' "";'))
