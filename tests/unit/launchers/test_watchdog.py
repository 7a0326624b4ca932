"""The watchdog as the process that it is: what it runs ends with its lease, and with it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from sappers.launchers import watchdog
from sappers.launchers.command import clone_command, qemu_command
from sappers.launchers.watchdog import EXIT_CODE, lease_text, lease_until, now
from tests.unit.launchers.test_command import SPEC
from tests.waiting import wait_until

# Says who it is, and lives until somebody ends it.
CHILD = ("/bin/sh", "-c", "echo $$; exec sleep 1000")


def grant(path: Path, seconds: float) -> None:
    new = path.with_suffix(".new")
    new.write_text(lease_text(now() + seconds))
    new.replace(path)


def begin(path: Path, *command: str) -> subprocess.Popen[bytes]:
    words = (sys.executable, "-I", "-S", watchdog.__file__, str(path), *(command or CHILD))
    return subprocess.Popen(words, stdout=subprocess.PIPE)


def child_of(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in ("Z", "X")


@pytest.fixture
def lease(tmp_path: Path) -> Path:
    return tmp_path / "lease"


def test_a_guest_ends_with_its_lease_and_not_before_a_renewal(lease: Path) -> None:
    grant(lease, 1000)
    process = begin(lease)
    child = child_of(process)
    grant(lease, 2000)
    assert process.poll() is None
    grant(lease, 0)
    assert process.wait(30) == EXIT_CODE
    assert not runs(child)


@pytest.mark.parametrize("content", [None, "", "gibberish", "other-boot 9999999999"])
def test_a_lease_that_cannot_be_read_or_is_of_another_boot_grants_nothing(
    lease: Path, content: str | None
) -> None:
    if content is not None:
        lease.write_text(content)
    assert lease_until(str(lease)) == 0
    assert begin(lease, "/bin/true").wait(30) == EXIT_CODE


def test_a_lease_that_is_taken_away_ends_it(lease: Path) -> None:
    grant(lease, 1000)
    process = begin(lease)
    child_of(process)
    lease.unlink()
    assert process.wait(30) == EXIT_CODE


def test_if_the_watchdog_is_killed_so_is_the_guest(lease: Path) -> None:
    grant(lease, 1000)
    process = begin(lease)
    child = child_of(process)
    process.kill()
    process.wait()
    wait_until("the guest is ended", lambda: not runs(child))


def test_a_watchdog_that_was_stopped_for_long_ends_it_when_it_goes_on(lease: Path) -> None:
    grant(lease, 0.5)
    process = begin(lease)
    process.send_signal(signal.SIGSTOP)
    wait_until("the lease is over", lambda: lease_until(str(lease)) < now())
    process.send_signal(signal.SIGCONT)
    assert process.wait(30) == EXIT_CODE


def test_it_ends_as_its_guest_does_and_passes_the_request_to_end_on(lease: Path) -> None:
    grant(lease, 1000)
    assert begin(lease, "/bin/sh", "-c", "exit 7").wait(30) == 7
    assert begin(lease, "/bin/sh", "-c", "kill -9 $$").wait(30) == 137
    process = begin(lease)
    child_of(process)
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM
    assert begin(lease, "/no/such/program").wait(30) == 127


def test_only_an_exclusive_guest_has_one() -> None:
    assert watchdog.__file__ not in qemu_command(SPEC)
    watched = msgspec.structs.replace(SPEC, lease_file="/guests/a/lease", user_id=1_879_048_200)
    for command in (qemu_command(watched), clone_command(watched)):
        assert command[:5] == (sys.executable, "-I", "-S", watchdog.__file__, "/guests/a/lease")
        assert "--pdeathsig=KILL" in command
        assert command.index("--pdeathsig=KILL") < command.index("--")
    assert Path(watchdog.__file__).is_absolute()
