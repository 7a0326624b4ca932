"""Brings back a host whose agent died: look, decide, mend, and see that it stays up.

Nothing is changed that the cluster has not committed as a step first: `report` returns once it has.
An agent that a person has disabled stays as it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

import msgspec

from sappers.errors import HostError, HostUnreachable, LockHeld
from sappers.model.repair import Finding
from sappers.provisioner.executor.executor import Executor
from sappers.provisioner.places import (
    COMPLETE,
    CURRENT,
    INSTALL_FOLDER,
    LOCK_PATH,
    STATE_FOLDER,
    UNIT_NAME,
)
from sappers.provisioner.repair.restore_by_hand import STAYS_UP_SECONDS, restore_by_hand

FREE_MIB_MIN = 64
START_SECONDS = 120.0
_LOOK_SECONDS = 1.0
_PROPERTIES = "LoadState,UnitFileState,ActiveState,SubState,Result,ExecMainStatus,NRestarts,MainPID"
_JOURNAL_CHARACTERS = 200
_VERSION = re.compile(r"[0-9a-f]{12}-py3[0-9]{1,2}")
# Old versions and what unpacking left; the two versions that $@ names stay.
_SWEEP = """\
cd "$0" || exit 1
rm -rf .*.pex .pex-root
for each in *-py3*; do
    case " $* " in *" $each "*) ;; *) rm -rf "$each" ;; esac
done
journalctl --quiet --vacuum-size=16M || true
"""
_VERSIONS = 'cd "$0" && ls -1td -- *-py3*/"$1" 2>/dev/null || true'

Report = Callable[[str], None]


class Diagnosis(msgspec.Struct, frozen=True):
    """What the host looks like.

    Attributes:
        unit: Properties of the agent's unit, as systemd names them.
        current: Version that is switched to, or empty when the link is broken.
        versions: Complete ones, newest first.
        free_mib: By folder.
        last_words: Of the agent's journal.
    """

    systemd: bool
    unit: dict[str, str]
    current: str
    versions: tuple[str, ...]
    free_mib: dict[str, int]
    last_words: str

    @property
    def full(self) -> tuple[str, ...]:
        """Folders without room."""
        return tuple(sorted(path for path, free in self.free_mib.items() if free < FREE_MIB_MIN))

    def describe(self) -> str:
        """One sentence."""
        unit = self.unit
        state = f"{unit.get('ActiveState', '?')} ({unit.get('SubState', '?')})"
        if unit.get("Result", "success") != "success":
            state += f", {unit['Result']}"
        parts = [
            f"{UNIT_NAME} is {state}",
            f"version {self.current}" if self.current else f"{CURRENT} is broken",
            ", ".join(f"{free} MiB free at {path}" for path, free in sorted(self.free_mib.items())),
        ]
        if self.last_words:
            parts.append(f"its last words: {self.last_words}")
        return "; ".join(parts)


def why_hopeless(found: Diagnosis) -> str:
    """Why only a person can help, or empty."""
    if not found.systemd:
        return "systemd does not run on it"
    if found.unit.get("UnitFileState") == "disabled":
        return (
            f"{UNIT_NAME} is disabled, so somebody wants it not to run: "
            f"systemctl enable --now {UNIT_NAME}"
        )
    if found.unit.get("LoadState") == "masked":
        return (
            f"{UNIT_NAME} is masked, so somebody wants it not to run: systemctl unmask {UNIT_NAME}"
        )
    if found.unit.get("LoadState") != "loaded":
        return f"it has no {UNIT_NAME}: run sappers-deploy bootstrap"
    if not found.versions:
        return f"no complete agent is left in {INSTALL_FOLDER}: run sappers-deploy bootstrap"
    return ""


def versions_to_try(found: Diagnosis) -> tuple[str, ...]:
    """The one switched to, if it is whole, then the newest other one."""
    others = [version for version in found.versions if version != found.current]
    first = (found.current,) if found.current in found.versions else ()
    return (*first, *others)[:2]


def restore_host(
    executor: Executor, holder: str, report: Report, start: Sequence[str] = ()
) -> tuple[Finding, str]:
    """Mend the host; what came of it, and a sentence about it.

    Args:
        executor: On the host, as root.
        holder: Who is at work, for other runs that meet the lock.
        report: Told each step before it is done; may raise, which ends the repair.
        start: What starts its agent, where systemd does not.

    Raises:
        HostUnreachable: The connection is gone.
    """
    try:
        if start:
            return restore_by_hand(executor, start, report)
        executor.acquire_lock(LOCK_PATH, holder)
        return _Restore(executor, report).run()
    except HostUnreachable:
        raise
    except LockHeld as error:
        return Finding.FAILED, f"another run works on it: {error.holder}"
    except HostError as error:
        return Finding.FAILED, error.message


class _Restore:
    def __init__(self, executor: Executor, report: Report) -> None:
        self._executor = executor
        self._report = report

    def run(self) -> tuple[Finding, str]:
        found = diagnose(self._executor)
        self._report(f"logged in: {found.describe()}")
        if why := why_hopeless(found):
            return Finding.HOPELESS, why
        if found.full:
            self._sweep(found)
        trouble = ""
        for version in versions_to_try(found):
            if version != found.current or trouble:
                why = trouble or f"{CURRENT} is broken"
                self._report(f"{why}; going back to version {version}")
                self._executor.ensure_link(CURRENT, version)
            trouble = self._start(found, version)
            if not trouble:
                return Finding.RESTORED, f"agent {version} runs and stays up"
        return Finding.FAILED, trouble

    def _sweep(self, found: Diagnosis) -> None:
        self._report(f"no room at {', '.join(found.full)}: removing old agents and old journals")
        keep = versions_to_try(found)
        self._executor.run(["sh", "-c", _SWEEP, INSTALL_FOLDER, *keep])

    def _start(self, found: Diagnosis, version: str) -> str:
        """Start the agent; why it does not stay up, or empty."""
        runs = found.unit.get("ActiveState") == "active"
        verb = "restart" if runs else "start"
        why = "it runs, but the cluster does not hear it; " if runs else ""
        self._report(f"{why}{verb}ing {UNIT_NAME} with version {version}")
        self._executor.run(["systemctl", "reset-failed", UNIT_NAME])
        done = self._executor.run(
            ["systemctl", "restart", UNIT_NAME], timeout_seconds=START_SECONDS
        )
        if done.exit_code:
            words = last_words(self._executor) or done.output.strip()[-_JOURNAL_CHARACTERS:]
            self._executor.run(["systemctl", "stop", UNIT_NAME])
            return f"agent {version} does not start: {words}"
        return self._watch(version)

    def _watch(self, version: str) -> str:
        """Why it does not stay up, or empty."""
        first = show_unit(self._executor)
        deadline = time.monotonic() + STAYS_UP_SECONDS
        while time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            now = show_unit(self._executor)
            if now.get("ActiveState") != "active" or now.get("MainPID") != first.get("MainPID"):
                return f"agent {version} started and ended again: {last_words(self._executor)}"
        return ""


def diagnose(executor: Executor) -> Diagnosis:
    """Look; nothing is changed."""
    facts = executor.gather_facts(disk_paths=(STATE_FOLDER, INSTALL_FOLDER))
    link = executor.stat([CURRENT])[CURRENT]
    listed = executor.run(["sh", "-c", _VERSIONS, INSTALL_FOLDER, COMPLETE])
    versions = [line.partition("/")[0] for line in listed.stdout.splitlines()]
    known = tuple(version for version in versions if _VERSION.fullmatch(version))
    target = link.target if link is not None and link.target else ""
    return Diagnosis(
        systemd=facts.systemd,
        unit=show_unit(executor) if facts.systemd else {},
        current=target if target in known else "",
        versions=known,
        free_mib=facts.free_disk_mib,
        last_words=last_words(executor) if facts.systemd else "",
    )


def show_unit(executor: Executor) -> dict[str, str]:
    """The agent's unit as systemd sees it."""
    shown = executor.run(["systemctl", "show", UNIT_NAME, f"--property={_PROPERTIES}"])
    return dict(line.partition("=")[::2] for line in shown.stdout.splitlines())


def last_words(executor: Executor) -> str:
    """The end of the agent's journal, as one line."""
    said = executor.run(
        ["journalctl", "--unit", UNIT_NAME, "--lines=3", "--no-pager", "--output=cat"]
    )
    return " | ".join(said.stdout.split("\n")).strip(" |")[-_JOURNAL_CHARACTERS:]
