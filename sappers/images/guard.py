"""The guard of a program that a build runs: what the program started, too, ends as the build does.

    python -I -S sappers/images/guard.py GRACE_SECONDS LIMIT_SECONDS SCRATCH COMMAND…

Run as a file, so that it needs nothing but Python's standard library. Its standard input is a pipe
that the build holds: when that is closed, by the build or by the build's death, the program gets
SIGINT, as by Ctrl-C, and GRACE_SECONDS to end what it began; then nothing that came of it is left
alive, for the guard is the parent of orphans (`PR_SET_CHILD_SUBREAPER`). SCRATCH, a folder or `""`,
is removed then. If the guard itself is killed, the kernel kills the program.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import sys

# Exit code of a program that took longer than its limit, as coreutils' timeout has it.
TOO_LATE = 124
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_ASK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(grace_seconds: float, limit_seconds: float, scratch: str, command: list[str]) -> int:
    """Run the command; its exit code, as a shell would say it."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for number in _ASK:
        signal.signal(number, lambda *_: None)  # these are for the program; the pipe is for us
    program = _start(command)
    ended = os.pidfd_open(program)
    ready = _first_of((0, ended), limit_seconds)
    if ended not in ready:
        os.killpg(0, signal.SIGINT)
        _first_of((ended,), grace_seconds)
    code = _end_all(program)
    if 0 in ready and scratch:
        shutil.rmtree(scratch, ignore_errors=True)
    return code if ready else TOO_LATE


def _start(command: list[str]) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, _ASK)  # until whoever is asked can hear it
    parent, program = os.getpid(), os.fork()
    if program:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASK)
        return program
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    for number in _ASK:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASK)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.execvp(command[0], command)  # noqa: S606 - a builder's own command line, no shell
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


def _first_of(files: tuple[int, ...], seconds: float) -> set[int]:
    poll = select.poll()
    for file in files:
        poll.register(file, select.POLLIN)
    return {file for file, _ in poll.poll(seconds * 1000)}


def _end_all(program: int) -> int:
    """Kill what is left, generation by generation: orphans become children; the program's code."""
    code = 1
    while True:
        for child in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            pid, status = os.wait()
        except ChildProcessError:
            return code
        if pid == program:
            code = os.waitstatus_to_exitcode(status)
            code = code if code >= 0 else 128 - code


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:  # noqa: PTH123
        return [int(pid) for pid in file.read().split()]


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4:]))
