"""The watchdog of an exclusive guest: runs its QEMU as a child, and kills it when its lease ends.

    python -I sappers/launchers/watchdog.py LEASE_FILE COMMAND…

Run as a file by the unit of the guest, so that it needs neither an agent nor anything but Python's
standard library. LEASE_FILE has the host's boot id and a moment of CLOCK_BOOTTIME, which goes on
while the host sleeps; the agent moves it on. A file that is missing, damaged or of another boot
grants nothing. If the watchdog itself is killed, the kernel kills QEMU (`PR_SET_PDEATHSIG`, which
`setpriv` sets anew where it changes the user).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from types import FrameType

LOOK_SECONDS = 0.25
MEMORY_MIB = 16  # more than it takes
EXIT_CODE = 98  # of a guest whose lease ended
_PR_SET_PDEATHSIG = 1
_TO_END = {signal.SIGTERM}
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def boot_id() -> str:
    """This boot of the host."""
    with open(_BOOT_ID) as file:  # noqa: PTH123 - starts in half the time
        return file.read().strip()


def now() -> float:
    """Seconds since the host booted, those that it slept through included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def lease_text(until: float) -> str:
    """What the agent writes."""
    return f"{boot_id()} {until:.3f}\n"


def lease_until(path: str) -> float:
    """When the lease in a file ends, by `now`; 0 where there is none."""
    try:
        with open(path) as file:  # noqa: PTH123
            boot, _, until = file.read(200).partition(" ")
        return float(until) if boot == boot_id() else 0.0
    except (OSError, ValueError):
        return 0.0


def _begin(command: list[str], parent: int) -> None:
    """The child: dies with its parent, then becomes the command."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(EXIT_CODE)
    try:
        os.execv(command[0], command)  # noqa: S606 - our own command line, no shell
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


def main(path: str, command: list[str]) -> int:
    """Run the command until it or its lease ends; the exit code, as a shell would say it."""
    if lease_until(path) <= now():
        return EXIT_CODE
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, _TO_END)  # until there is somebody to pass it on to
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _TO_END)
        _begin(command, parent)

    def pass_on(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TO_END)
    ours = False
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return EXIT_CODE if ours else (code if code >= 0 else 128 - code)
        if lease_until(path) <= now():
            ours = True
            pass_on(signal.SIGKILL, None)
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
