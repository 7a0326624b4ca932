"""A control group per host: the one identity of all its processes.

Invariant: a group is named for the lab's folder and the host, lasts no longer than this boot of the
machine, and ends with all its processes at once. So no recorded process id is ever trusted, and
nothing that a host started can outlive it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sappers.errors import LabError
from sappers.lab.waiting import await_condition

_MOUNTS = Path("/proc/self/mountinfo")
_END_SECONDS = 10.0


def hierarchy() -> Path:
    """Where the unified control-group hierarchy is mounted.

    Raises:
        LabError: It is not.
    """
    for line in _MOUNTS.read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    raise LabError(
        "no unified control-group hierarchy (cgroup2) is mounted",
        hint="boot the machine with systemd, or mount one at /sys/fs/cgroup/unified",
    )


class ControlGroup:
    """The processes of one host, by the group's path below the hierarchy."""

    def __init__(self, relative: str) -> None:
        root = hierarchy()
        self.path = root / relative
        # nspawn makes a twin in systemd's own v1 hierarchy where that is mounted beside.
        self._twin = root.parent / "systemd" / relative

    def create(self) -> None:
        """Make it, empty. Nothing to do when it is there."""
        self.path.mkdir(parents=True, exist_ok=True)

    def populated(self) -> bool:
        """Whether any process lives in it or below."""
        return self._holds("populated")

    def frozen(self) -> bool:
        """Whether `freeze` stopped its processes."""
        return self._holds("frozen")

    def freeze(self, *, frozen: bool) -> None:
        """Stop all processes where they are, or let them go on.

        Raises:
            LabError: There are none.
        """
        if not self.populated():
            raise LabError("the host does not run", hint="sappers-deploy lab up starts it")
        (self.path / "cgroup.freeze").write_text("1" if frozen else "0")
        await_condition(lambda: self.frozen() == frozen, _END_SECONDS, f"{self.path} freezes")

    def leader(self) -> int | None:
        """The container's first process, or None when it is not there (yet)."""
        try:
            pids = (self.path / "payload/init.scope/cgroup.procs").read_text().split()
        except OSError:
            return None
        return min((int(pid) for pid in pids if pid != "0"), default=None)

    def kill(self) -> None:
        """End every process at once, as a power cut does, and remove the group. Idempotent.

        Raises:
            LabError: A process does not end.
        """
        try:
            (self.path / "cgroup.kill").write_text("1")
        except FileNotFoundError:
            return
        await_condition(lambda: not self.populated(), _END_SECONDS, f"{self.path} ends")
        for tree in (self.path, self._twin):
            await_condition(partial(_removed, tree), _END_SECONDS, f"{tree} is removed")

    def _holds(self, event: str) -> bool:
        try:
            return f"{event} 1" in (self.path / "cgroup.events").read_text().splitlines()
        except OSError:
            return False


def _removed(tree: Path) -> bool:
    """Remove a group and those below it, as far as the kernel lets go of them already."""
    try:
        for folder in sorted((path for path in tree.rglob("*") if path.is_dir()), reverse=True):
            folder.rmdir()
        tree.rmdir()
    except FileNotFoundError:
        return not tree.exists()
    except OSError:
        return False
    return True
