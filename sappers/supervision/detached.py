"""Detached processes, where no systemd runs: each in a session of its own, with a record on disk.

Invariant: a process is ours only if boot id, pid and start time are those of its record. A pid
alone is never an identity; it is handed out again.

A few lines of shell stand above each process to note how it ended, for an agent that was away.
Limits on memory need control groups and are systemd's; here `memory_max_mib` has no effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import msgspec

from sappers.errors import SupervisorError
from sappers.ports import OUTPUT_LOG, UnitSpec, UnitStatus
from sappers.supervision.as_user import as_user

# $1: where to write both identities; $2: where to write the exit code; the rest: the command.
# Its identity is read first of all: dash forgets a command that has ended as soon as it has done
# anything else, a builtin too, and until then that one is a zombie at least.
_SCRIPT = """
identity=$1 ended=$2; shift 2
exec 3<&0
"$@" <&3 3<&- &
read -r stat </proc/$!/stat
exec 3<&- </dev/null
read -r boot </proc/sys/kernel/random/boot_id
read -r own </proc/$$/stat
printf '%s\\n%s\\n%s\\n' "$boot" "$stat" "$own" >"$identity.new" && mv "$identity.new" "$identity"
wait $!
echo $? >"$ended.new" && mv "$ended.new" "$ended"
"""
_START_SECONDS = 10.0
_POLL_SECONDS = 0.005
_KILL_WAIT_SECONDS = 5.0


class Identity(msgspec.Struct, frozen=True):
    """Which process this is, for ever.

    Attributes:
        start_ticks: Clock ticks from the boot to the process's start.
    """

    boot_id: str
    pid: int
    start_ticks: int


class Record(msgspec.Struct, frozen=True):
    """A process and the shell above it, which notes how the process ended."""

    process: Identity
    shell: Identity


class DetachedSupervisor:
    """Runs processes in sessions of their own; implements `ports.Supervisor`.

    Args:
        folder: Where the records are kept, mode 0700.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def start(self, spec: UnitSpec) -> None:
        """Start it; an ended unit of the same name is cleared first.

        Raises:
            SupervisorError: It runs already or cannot be started.
        """
        known = await self.status(spec.name)
        if known is not None and known.running:
            raise SupervisorError(f"{spec.name} runs already")
        if spec.prepare or spec.clean_up:
            raise SupervisorError(f"{spec.name} needs systemd, with which root prepares it")
        self._forget(spec.name)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            await self._spawn(spec)
        except OSError as error:
            raise SupervisorError(f"cannot start {spec.name}: {error}") from error
        deadline = time.monotonic() + _START_SECONDS
        while not self._identity_path(spec.name).exists():
            if time.monotonic() > deadline:
                raise SupervisorError(f"{spec.name} does not start")
            await asyncio.sleep(_POLL_SECONDS)

    async def stop(self, name: str, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL; forget it. Nothing to do when it is not known."""
        record = self._record(name)
        if record is not None:
            for number, wait_seconds in (
                (signal.SIGTERM, grace_seconds),
                (signal.SIGKILL, _KILL_WAIT_SECONDS),
            ):
                if await _signal(record, number, wait_seconds):
                    break
        self._forget(name)

    async def send_signal(self, name: str, number: signal.Signals) -> None:
        """Send it a signal.

        Raises:
            SupervisorError: It does not run.
        """
        record = self._record(name)
        try:
            if record is None or not is_alive(record.process):
                raise ProcessLookupError
            os.kill(record.process.pid, number)
        except ProcessLookupError as error:
            raise SupervisorError(f"{name} does not run") from error

    async def status(self, name: str) -> UnitStatus | None:
        """How it is, or None when it is not known."""
        record = self._record(name)
        if record is None:
            return None
        # While the shell lives, the word on how the process ended is still to come. To write it is
        # the last that the shell does: so it is read last.
        process_lives, shell_lives = is_alive(record.process), is_alive(record.shell)
        exit_code = self._exit_code(name)
        running = process_lives or (exit_code is None and shell_lives)
        return UnitStatus(
            name=name,
            running=running,
            exit_code=None if running else exit_code,
            started_at=_monotonic_start(record.process),
            pid=record.process.pid if running else None,
        )

    async def list(self, prefix: str) -> tuple[UnitStatus, ...]:
        """All known units whose name begins so."""
        names = [path.stem for path in sorted(self._folder.glob(f"{prefix}*.id"))]
        found = [await self.status(name) for name in names]
        return tuple(status for status in found if status is not None)

    async def _spawn(self, spec: UnitSpec) -> None:
        log = Path(spec.working_directory) / OUTPUT_LOG
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        output = os.open(log, flags, 0o600)
        given = os.open(spec.standard_input or os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # setsid forks: the process becomes nobody's child, and leaves no zombie with us.
            launcher = await asyncio.create_subprocess_exec(
                *("setsid", "--fork", "sh", "-c", _SCRIPT, "sh"),
                *(str(self._identity_path(spec.name)), str(self._exit_path(spec.name))),
                *as_user(spec.user_id),
                *spec.command,
                cwd=spec.working_directory,
                stdin=given,
                stdout=output,
                stderr=output,
                umask=0o077,
            )
        finally:
            os.close(output)
            os.close(given)
        if await launcher.wait() != 0:
            raise SupervisorError(f"cannot start {spec.name}: setsid failed")

    def _record(self, name: str) -> Record | None:
        try:
            boot_id, process, shell = self._identity_path(name).read_text().splitlines()
        except (FileNotFoundError, ValueError):
            return None
        return Record(identity_from(boot_id, process), identity_from(boot_id, shell))

    def _exit_code(self, name: str) -> int | None:
        try:
            return int(self._exit_path(name).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _identity_path(self, name: str) -> Path:
        return self._folder / f"{name}.id"

    def _exit_path(self, name: str) -> Path:
        return self._folder / f"{name}.exit"

    def _forget(self, name: str) -> None:
        for path in (self._identity_path(name), self._exit_path(name)):
            path.unlink(missing_ok=True)


def identity_from(boot_id: str, stat: str) -> Identity:
    """The identity from a line of `/proc/PID/stat`; the second field may hold anything."""
    fields = stat.rpartition(")")[2].split()
    return Identity(boot_id, int(stat.split(maxsplit=1)[0]), int(fields[19]))


def is_alive(identity: Identity) -> bool:
    """Whether that very process still runs.

    Its first thread may have ended while others have not: until they have, its ports are taken.
    """
    process = Path(f"/proc/{identity.pid}")
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        stat = (process / "stat").read_text()
        zombie = stat.rpartition(")")[2].split()[0] in ("Z", "X")
        ended = zombie and len(list((process / "task").iterdir())) <= 1
    except (FileNotFoundError, ProcessLookupError):
        return False
    return not ended and identity_from(boot_id, stat) == identity


async def _signal(record: Record, number: int, wait_seconds: float) -> bool:
    """Signal the process, or kill all of its session; whether it is gone in the time given."""
    if is_alive(record.process):
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(os.getsid(record.process.pid), number)
            else:
                os.kill(record.process.pid, number)
    deadline = time.monotonic() + wait_seconds
    while is_alive(record.process) or is_alive(record.shell):
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True


def _monotonic_start(identity: Identity) -> float | None:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    if boot_id != identity.boot_id:
        return None
    since_boot = identity.start_ticks / os.sysconf("SC_CLK_TCK")
    asleep = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return since_boot - asleep
