"""Supervised processes outlive who started them; a pid is never taken for an identity.

The contract is the same for detached processes and for systemd, which is tried where it runs: as
root, on a host of the lab.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sappers.errors import SupervisorError
from sappers.ports import OUTPUT_LOG, Supervisor, UnitSpec
from sappers.supervision import detached
from sappers.supervision.detached import DetachedSupervisor, Identity, identity_from, is_alive
from sappers.supervision.systemd import SystemdSupervisor
from tests.waiting import eventually


def spec(folder: Path, *command: str, name: str = "sappers-test-one") -> UnitSpec:
    return UnitSpec(name=name, command=command, working_directory=str(folder))


async def ended(supervisor: Supervisor, name: str) -> int | None:
    async def look() -> bool:
        status = await supervisor.status(name)
        return status is None or not status.running

    await eventually(look)
    status = await supervisor.status(name)
    assert status is not None
    return status.exit_code


def is_running(pid: str) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


systemd = pytest.mark.skipif(
    not Path("/run/systemd/system").exists() or os.geteuid() != 0, reason="needs systemd and root"
)


@pytest.fixture(params=["detached", pytest.param("systemd", marks=systemd)])
def make(request, tmp_path) -> Callable[[], Supervisor]:
    if request.param == "systemd":
        return SystemdSupervisor
    return lambda: DetachedSupervisor(tmp_path / "units")


@pytest.fixture
async def supervisor(make):
    it = make()
    yield it
    for status in await it.list("sappers-test-"):
        await it.stop(status.name, 0.0)


async def test_runs_and_is_found_by_another_supervisor(supervisor, make, tmp_path):
    await supervisor.start(spec(tmp_path, "sleep", "60"))
    another = make()
    (status,) = await another.list("sappers-test-")
    assert status.running and status.exit_code is None
    loop_now = asyncio.get_running_loop().time()
    assert status.started_at == pytest.approx(loop_now, abs=5)
    await another.stop("sappers-test-one", 5.0)
    assert await supervisor.status("sappers-test-one") is None
    assert await supervisor.list("sappers-test-") == ()


async def test_exit_code_and_output_are_kept(supervisor, tmp_path):
    await supervisor.start(spec(tmp_path, "sh", "-c", "echo to-log; echo to-err >&2; exit 7"))
    assert await ended(supervisor, "sappers-test-one") == 7
    assert (tmp_path / OUTPUT_LOG).read_text() == "to-log\nto-err\n"


async def test_one_that_ends_before_anybody_looks_is_known_all_the_same(supervisor, tmp_path):
    for program, code in (("true", 0), ("false", 1)) * 5:
        await supervisor.start(spec(tmp_path, program))
        assert await ended(supervisor, "sappers-test-one") == code


async def test_a_signal_reaches_it_and_nobody_once_it_has_ended(supervisor, tmp_path):
    # Not SIGHUP: where that is ignored, as under nohup, a shell cannot trap it.
    trap = "trap 'echo heard; exit 3' USR1; echo > ready; while :; do sleep 0.1; done"
    await supervisor.start(spec(tmp_path, "sh", "-c", trap))
    await eventually(lambda: asyncio.to_thread((tmp_path / "ready").exists))
    await supervisor.send_signal("sappers-test-one", signal.SIGUSR1)
    assert await ended(supervisor, "sappers-test-one") == 3
    assert (tmp_path / OUTPUT_LOG).read_text() == "heard\n"
    await supervisor.stop("sappers-test-one", 0.0)
    with pytest.raises(SupervisorError):
        await supervisor.send_signal("sappers-test-one", signal.SIGUSR1)


async def test_killed_process_reports_the_signal(supervisor, tmp_path):
    await supervisor.start(spec(tmp_path, "sh", "-c", "kill -9 $$"))
    assert await ended(supervisor, "sappers-test-one") == 137


async def test_a_second_start_is_refused_while_it_runs_and_clears_what_ended(supervisor, tmp_path):
    await supervisor.start(spec(tmp_path, "sleep", "60"))
    with pytest.raises(SupervisorError, match="runs already"):
        await supervisor.start(spec(tmp_path, "sleep", "60"))
    await supervisor.stop("sappers-test-one", 5.0)
    await supervisor.start(spec(tmp_path, "true"))
    assert await ended(supervisor, "sappers-test-one") == 0
    await supervisor.start(spec(tmp_path, "false"))
    assert await ended(supervisor, "sappers-test-one") == 1


async def test_one_that_ignores_sigterm_is_killed(supervisor, tmp_path):
    stubborn = (
        "import os, pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path('new').write_text(str(os.getpid()))\n"
        "os.rename('new', 'ready')\n"
        "time.sleep(60)"
    )
    await supervisor.start(spec(tmp_path, sys.executable, "-c", stubborn))
    ready = tmp_path / "ready"
    await eventually(lambda: asyncio.to_thread(ready.exists))
    await supervisor.stop("sappers-test-one", 0.2)
    assert not is_running(ready.read_text())


async def test_words_arrive_unchanged(supervisor, tmp_path):
    words = ("$HOME", "%n", "a  b", "'q'", '"', "\\x")
    await supervisor.start(spec(tmp_path, "printf", "%s\\n", *words))
    assert await ended(supervisor, "sappers-test-one") == 0
    assert (tmp_path / OUTPUT_LOG).read_text().splitlines() == list(words)


async def test_a_program_that_is_not_there(supervisor, tmp_path):
    with contextlib.suppress(SupervisorError):
        await supervisor.start(spec(tmp_path, "/no/such/program"))
        assert await ended(supervisor, "sappers-test-one") == 127


async def test_records_of_detached_processes_leave_no_trace_and_are_private(tmp_path):
    supervisor = DetachedSupervisor(tmp_path / "units")
    await supervisor.start(spec(tmp_path, "sleep", "60"))
    assert (tmp_path / "units").stat().st_mode & 0o777 == 0o700
    await supervisor.stop("sappers-test-one", 1.0)
    assert list((tmp_path / "units").iterdir()) == []


async def test_how_it_ended_is_known_as_soon_as_it_is_known_that_it_did(tmp_path, monkeypatch):
    supervisor = DetachedSupervisor(tmp_path / "units")
    await supervisor.start(spec(tmp_path, "sh", "-c", "exit 3"))
    assert await ended(supervisor, "sappers-test-one") == 3
    written = tmp_path / "units" / "sappers-test-one.exit"
    written.rename(tmp_path / "later")

    def ends_meanwhile(identity: Identity) -> bool:
        if not written.exists():
            (tmp_path / "later").rename(written)
        return is_alive(identity)

    monkeypatch.setattr(detached, "is_alive", ends_meanwhile)
    status = await supervisor.status("sappers-test-one")
    assert status is not None and (status.running, status.exit_code) == (False, 3)


def test_a_reused_pid_is_not_ours():
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    mine = identity_from(boot_id, Path("/proc/self/stat").read_text())
    assert is_alive(mine)
    assert not is_alive(msgspec.structs.replace(mine, start_ticks=mine.start_ticks + 1))
    assert not is_alive(msgspec.structs.replace(mine, boot_id="another boot"))


def test_a_process_name_with_brackets_does_not_confuse():
    stat = "12 (a) b) (c)) S " + " ".join(str(number) for number in range(100, 140))
    assert identity_from("b", stat) == Identity("b", 12, 118)


FIRST_THREAD_ENDS = """
import ctypes, socket, sys, threading
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=server.accept).start()
print(server.getsockname()[1], flush=True)
ctypes.CDLL(None).syscall(60, 0)  # exit, of this thread alone
"""


async def test_one_whose_first_thread_has_ended_runs_and_is_stopped_with_all_others(tmp_path):
    """As a QEMU that is killed: what looks like a zombie holds its port until all threads ended."""
    supervisor = DetachedSupervisor(tmp_path / "units")
    await supervisor.start(spec(tmp_path, sys.executable, "-c", FIRST_THREAD_ENDS))
    status = await supervisor.status("sappers-test-one")
    assert status is not None and status.pid is not None
    stat = Path(f"/proc/{status.pid}/stat")
    await eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
    again = await supervisor.status("sappers-test-one")
    assert again is not None and again.running
    await supervisor.stop("sappers-test-one", 0.0)
    port, *_ = (tmp_path / OUTPUT_LOG).read_text().split()  # its shell may tell of its end below
    with socket.create_server(("127.0.0.1", int(port))):
        pass


async def test_stopping_what_is_not_known_does_nothing(supervisor):
    await supervisor.stop("sappers-test-unknown", 1.0)
    assert await supervisor.status("sappers-test-unknown") is None


async def test_a_detached_process_is_not_started_without_what_root_should_prepare(tmp_path) -> None:
    guarded = msgspec.structs.replace(spec(tmp_path, "sleep", "9"), prepare=("/bin/true",))
    with pytest.raises(SupervisorError, match="needs systemd"):
        await DetachedSupervisor(tmp_path / "units").start(guarded)
