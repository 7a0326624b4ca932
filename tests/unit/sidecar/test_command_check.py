"""A health check that is a command."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from sappers.sidecar.command_check import CommandCheck
from sappers.sidecar.settings import HealthCheck, Launch


async def outcome(*command: str, timeout_seconds: float = 5.0) -> str:
    """As a guest does: one place reaps, and tells."""
    rule = HealthCheck("exec", command=command, timeout_seconds=timeout_seconds)
    check = CommandCheck(rule, Launch(), {"PATH": os.environ["PATH"], "WELL": "0"}, jailed=False)
    loop = asyncio.get_running_loop()

    def reap() -> None:
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                check.ended(*ended)
        except ChildProcessError:
            pass

    loop.add_signal_handler(signal.SIGCHLD, reap)
    try:
        return await check.check()
    finally:
        loop.remove_signal_handler(signal.SIGCHLD)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("true",), ""),
        (("sh", "-c", "exit $WELL"), ""),
        (("sh", "-c", "exit 3"), "sh ended with exit code 3"),
        (("sh", "-c", "kill -9 $$"), "sh was killed by SIGKILL"),
        (("sh", "-c", "kill -40 $$"), "sh was killed by signal 40"),
        (("/no/such/program",), "/no/such/program ended with exit code 127"),
        (("/",), "/ ended with exit code 126"),
    ],
)
async def test_the_exit_code_counts(command: tuple[str, ...], reason: str) -> None:
    assert await outcome(*command) == reason


async def test_a_command_that_hangs_is_no_health_and_is_ended() -> None:
    assert await outcome("sleep", "77.7", timeout_seconds=0.1) == "sleep does not end within 0.1 s"
