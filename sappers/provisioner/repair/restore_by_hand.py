"""Brings back an agent that somebody started by hand: the same program, on the same STATE_DIR.

An agent holds the lock of its STATE_DIR while it lives, and the file says which process it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from sappers.model.repair import Finding
from sappers.provisioner.executor.executor import Executor

START_SECONDS = 60.0
STAYS_UP_SECONDS = 4.0
_LOOK_SECONDS = 0.5
_WORDS = 200
# $0 is the lock. Nothing is printed of an agent that has ended: 1 alone says that the lock is held,
# and any other failure of flock says nothing of it.
WHO_RUNS = 'flock -n -s "$0" true 2>/dev/null; [ $? -eq 1 ] && cat "$0"'
_START = 'exec setsid --fork "$@" >>"$0" 2>&1 </dev/null'


class _Runs(msgspec.Struct):
    pid: int


def restore_by_hand(
    executor: Executor, start: Sequence[str], report: Callable[[str], None]
) -> tuple[Finding, str]:
    """Start the agent again; what came of it, and a sentence about it.

    Args:
        executor: On the host, as the agent's user.
        start: The program and STATE_DIR.
        report: Told each step before it is done; may raise, which ends the repair.

    Raises:
        HostUnreachable: The connection is gone.
    """
    state = start[-1]
    lock, log = f"{state}/agent.lock", f"{state}/agent.log"
    pid = _who_runs(executor, lock)
    said = executor.run(["tail", "-n", "1", log]).stdout.strip()[-_WORDS:]
    words = f"; its last words: {said}" if said else ""
    if pid:
        report(f"logged in: process {pid} runs on {state}, but the cluster does not hear it{words}")
        report(f"killing process {pid}")
        executor.run(["kill", "-KILL", str(pid)])
    else:
        report(f"logged in: no agent runs on {state}{words}")
    report(f"starting {' '.join(start)}")
    done = executor.run(["sh", "-c", _START, log, *start])
    if done.exit_code:
        return Finding.FAILED, f"it cannot be started: {done.output.strip()[-_WORDS:]}"
    return _watch(executor, lock, log, not_pid=pid)


def _watch(executor: Executor, lock: str, log: str, *, not_pid: int) -> tuple[Finding, str]:
    deadline = time.monotonic() + START_SECONDS
    pid, since = 0, 0.0
    while time.monotonic() < deadline:
        now = _who_runs(executor, lock)
        if now and now == pid and time.monotonic() - since >= STAYS_UP_SECONDS:
            return Finding.RESTORED, f"process {pid} runs and stays up"
        if now != pid and now != not_pid:
            pid, since = now, time.monotonic()
        time.sleep(_LOOK_SECONDS)
    said = executor.run(["tail", "-n", "1", log]).stdout.strip()[-_WORDS:]
    return Finding.FAILED, f"it does not stay up: {said or 'it logged nothing'}"


def _who_runs(executor: Executor, lock: str) -> int:
    """The agent's process, or 0."""
    said = executor.run(["sh", "-c", WHO_RUNS, lock]).stdout
    try:
        return msgspec.json.decode(said, type=_Runs).pid
    except msgspec.DecodeError:
        return 0
