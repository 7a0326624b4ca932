"""The application as a child of PID 1, and what PID 1 makes of the ways in which it ends."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from sappers.launchers.control import configuration
from sappers.sidecar import application
from sappers.sidecar.application import ApplicationProcess
from sappers.sidecar.guest import Guest
from sappers.sidecar.settings import ImageSettings, Launch, read_configuration
from tests.waiting import eventually


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> ApplicationProcess:
    """One that ended before it was told anything: its user may not enter its folder."""

    def refused(_: Launch) -> None:
        raise PermissionError("/data")

    monkeypatch.setattr(application, "_enter", refused)
    process = ApplicationProcess("app", launch=Launch("program"))
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


def reaped(process: ApplicationProcess) -> str:
    _, status = os.waitpid(process.pid, 0)
    process.ended(status)
    return process.exit_text


@pytest.mark.parametrize("saved", [False, True])
def test_one_that_ends_before_it_is_told_anything_is_told_of(
    gone: ApplicationProcess, saved: bool
) -> None:
    if saved:
        gone.prepare({})
    gone.start({})
    assert reaped(gone) == "the application ended with exit code 1"


def test_a_signal_without_a_name_ends_it_as_any_other(gone: ApplicationProcess) -> None:
    gone.ended(signal.SIGRTMIN + 3)  # as waitpid has it
    assert gone.exit_text == f"the application was killed by signal {signal.SIGRTMIN + 3}"
    gone.ended(signal.SIGSEGV)
    assert gone.exit_text == "the application was killed by SIGSEGV"
    os.waitpid(gone.pid, 0)


async def test_a_check_that_cannot_be_made_is_bad_health_until_it_can() -> None:
    message = configuration("web-1", "web", (), "", "", "", 0.01, 0.0, {})["configure"]
    guest = Guest(ImageSettings("web"), read_configuration(message), port=None, process=None)
    said: list[str] = []
    full = True

    async def health() -> str:
        if full:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return ""

    async def push(reason: str) -> bool:
        said.append(reason)
        return True

    guest.health, guest._push, guest._listen = health, push, lambda: None
    pushing = asyncio.create_task(guest._push_health())
    await eventually(lambda: said)
    assert "Resource temporarily unavailable" in said[-1]
    full = False
    await eventually(lambda: said[-1] == "")
    pushing.cancel()
