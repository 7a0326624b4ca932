"""A command from exec to exit: the seconds, and the most memory that its process had."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LOOK_SECONDS = 0.05
_COMMAND_SECONDS = 600.0
_TOLD = 2000  # characters of what a command that failed printed last


@dataclass(frozen=True)
class MeasuredRun:
    """How long it took; memory of its own process, not of those that it started."""

    seconds: float
    peak_bytes: int


def run_measured(
    argv: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
) -> MeasuredRun:
    """Run a command; its output goes to `log`.

    Raises:
        RuntimeError: It ended with another exit code than 0.
    """
    with log.open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            argv, env=environment, cwd=folder,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        peak = _Peak(process.pid)
        peak.start()
        try:
            code = process.wait(_COMMAND_SECONDS)
            seconds = time.monotonic() - began
        finally:
            peak.end()
            if process.poll() is None:
                process.kill()
                process.wait()
    if code:
        said = log.read_text(errors="replace")[-_TOLD:]
        raise RuntimeError(f"`{' '.join(argv)}` ended with exit code {code}: {said}")
    return MeasuredRun(seconds, peak.bytes)


class _Peak(threading.Thread):
    """Looks at the kernel's own record of a process's peak; it ends with the process.

    The figure that `wait4` gives would begin with what this process had when it forked.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._status = Path(f"/proc/{pid}/status")
        self._over = threading.Event()
        self.bytes = 0

    def run(self) -> None:
        """Until the process ends."""
        while not self._over.wait(_LOOK_SECONDS):
            try:
                status = self._status.read_text()
            except OSError:
                return
            for line in status.splitlines():
                if line.startswith("VmHWM:"):
                    self.bytes = max(self.bytes, int(line.split()[1]) * 1024)

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self.join()
