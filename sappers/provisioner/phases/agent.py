"""The agent's files: one bundle, unpacked into a folder of its own, switched to in one step.

Invariant: `current` names a folder only once that folder is whole and on disk.
"""

from __future__ import annotations

from collections.abc import Callable

from sappers.errors import CommandFailed
from sappers.provisioner.bundle import Bundle
from sappers.provisioner.places import COMPLETE, CURRENT, INSTALL_FOLDER
from sappers.provisioner.run import HostRun

_UNPACK_SECONDS = 300.0
# $1 Python, $2 bundle, $3 folder. The folder is made where it stays: its scripts name it.
# PEX needs no ensurepip, which Debian ships apart. What a killed run left of its cache would
# mislead it. Compiled now: the unit cannot write there later. Appliances are made with it, too.
UNPACK = """\
set -e
rm -rf "$3" "$PEX_ROOT"
PEX_TOOLS=1 "$1" -I "$2" venv --collisions-ok --compile "$3" >&2
cat > "$3/bin/sappers" <<EOF
#!$3/bin/python -I
import sys

from sappers.cli.agent import main

sys.exit(main())
EOF
chmod 0755 "$3/bin/sappers"
rm -rf "$PEX_ROOT"
sync -f "$3"
touch "$3/.complete"
sync -f "$3"
"""
# Everything but $1 (the new version) and $2 (the one before it).
_PRUNE = """\
cd "$0" || exit
for each in *-py3* .*.pex; do
    case "$each" in "$1" | "$2") ;; *) rm -rf "$each" ;; esac
done
"""


class AgentFiles:
    """Pushes the bundle once, and only to hosts that do not have it."""

    title = "agent"

    def __init__(self, bundle: Callable[[], Bundle]) -> None:
        """`bundle` waits until it is built; raises BundleError."""
        self._bundle = bundle

    def run(self, host: HostRun) -> str | None:
        """Leaves `host.version`; raises CommandFailed when the host cannot unpack it."""
        bundle = self._bundle()
        version = f"{bundle.digest[:12]}-py3{host.facts.python_version[1]}"
        host.version = version
        marker = f"{INSTALL_FOLDER}/{version}/{COMPLETE}"
        found = host.executor.stat([CURRENT, marker])
        link, complete = found[CURRENT], found[marker]
        before = link.target if link is not None else None
        if before == version and complete is not None:
            return None
        host.changes.append(f"agent {version}")
        if host.check:
            return None
        if complete is None:
            self._unpack(host, bundle, version)
        host.executor.ensure_link(CURRENT, version)
        host.executor.check(["sh", "-c", _PRUNE, INSTALL_FOLDER, version, before or version])
        return None

    def _unpack(self, host: HostRun, bundle: Bundle, version: str) -> None:
        there = f"{INSTALL_FOLDER}/.{version}.pex"
        host.executor.ensure_folder(INSTALL_FOLDER)
        host.note(f"sending {bundle.size_bytes / 1e6:.0f} MB")
        host.executor.write_file(there, bundle.path, mode=0o600)
        host.note("unpacking")
        folder = f"{INSTALL_FOLDER}/{version}"
        done = host.executor.run(
            ["sh", "-c", UNPACK, "sh", host.facts.python_path, there, folder],
            environment={"PEX_ROOT": f"{INSTALL_FOLDER}/.pex-root"},
            timeout_seconds=_UNPACK_SECONDS,
        )
        if done.exit_code:
            raise CommandFailed(
                host.name,
                f"unpack {there} into {folder}",
                done.exit_code,
                done.output,
                hint=f"is {host.facts.python_path} a whole Python, and room in {INSTALL_FOLDER}?",
            )
