"""The executor on a real host: commands, files and locks, and what stays after a failure."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sappers.errors import (
    CommandFailed,
    HostError,
    HostUnfit,
    HostUnreachable,
    LockHeld,
    PrivilegeError,
    SappersError,
)
from sappers.provisioner.connection.ssh import Connection
from sappers.provisioner.executor.executor import Executor, FileStat
from tests.integration.ssh_server import SshServer, make_home, make_host
from tests.waiting import wait_until


@pytest.fixture
def connection(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Connection]:
    make_home(tmp_path, monkeypatch)
    with Connection.open(make_host(server, tmp_path)) as opened:
        yield opened


@pytest.fixture
def executor(connection: Connection) -> Executor:
    return connection.start_executor()


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_runs_a_program_with_stdin_environment_and_both_outputs(executor: Executor) -> None:
    script = 'cat; echo "$WORD" >&2; echo "$PWD"; exit 7'
    stdin = os.urandom(3).hex().encode() * 100_000
    result = executor.run(["sh", "-c", script], stdin=stdin, environment={"WORD": "ü"})
    assert result.exit_code == 7
    assert result.stdout == stdin.decode() + "/\n"
    assert "ü\n" in result.output
    assert executor.run(["sh", "-c", "kill -9 $$"]).exit_code == 137


def test_shows_lines_as_they_come(executor: Executor, tmp_path: Path) -> None:
    lines: list[str] = []
    gate = tmp_path / "gate"

    def on_line(line: str) -> None:
        lines.append(line)
        gate.touch()  # the program goes on once its first line was seen

    script = f"echo one; until [ -e {gate} ]; do sleep 0.01; done; echo two; printf three"
    executor.check(["sh", "-c", script], on_line=on_line)
    assert lines == ["one", "two", "three"]


def test_a_failing_program_carries_its_data(executor: Executor) -> None:
    with pytest.raises(CommandFailed) as caught:
        executor.check(["sh", "-c", "echo told; exit 3"])
    assert (caught.value.exit_code, caught.value.output) == (3, "told\n")
    with pytest.raises(CommandFailed, match="No such file") as missing:
        executor.run(["no-such-program"])
    assert missing.value.exit_code == 127


def test_a_program_that_takes_too_long_ends_with_its_children(executor: Executor) -> None:
    with pytest.raises(CommandFailed, match="after 2 s") as caught:
        executor.run(["sh", "-c", "sleep 61 & echo $!; wait"], timeout_seconds=2.0)
    child = int(caught.value.output.split()[0])
    wait_until("the child is ended", lambda: not alive(child))


def test_a_daemon_that_keeps_the_pipes_does_not_hold_up(executor: Executor) -> None:
    began = time.monotonic()
    result = executor.check(["sh", "-c", "sleep 300 & echo $!"])
    assert time.monotonic() - began < 200
    os.kill(int(result.output), signal.SIGKILL)


def test_calls_from_many_threads_take_turns(executor: Executor) -> None:
    seen: dict[int, str] = {}

    def call(number: int) -> None:
        seen[number] = executor.check(["echo", str(number)]).stdout

    threads = [threading.Thread(target=call, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {number: f"{number}\n" for number in range(20)}


def test_writes_a_file_once_and_adjusts_what_differs(executor: Executor, tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert executor.write_file(str(path), b"content", mode=0o640, check=True)
    assert not path.exists()
    assert executor.write_file(str(path), b"content", mode=0o640)
    assert (path.read_bytes(), path.stat().st_mode & 0o7777) == (b"content", 0o640)
    inode = path.stat().st_ino
    assert not executor.write_file(str(path), b"content", mode=0o640)
    assert executor.write_file(str(path), b"content", mode=0o600, owner="free", check=True)
    assert path.stat().st_mode & 0o7777 == 0o640
    assert executor.write_file(str(path), b"content", mode=0o600, owner="free", group="4002")
    assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_ino) == (4001, 4002, inode)
    assert executor.write_file(str(path), b"CONTENT", mode=0o600)
    assert path.read_bytes() == b"CONTENT"
    assert (path.stat().st_uid, path.stat().st_mode & 0o7777) == (0, 0o600)
    assert [entry.name for entry in tmp_path.iterdir() if "sappers-new" in entry.name] == []


@pytest.mark.parametrize("compressible", [True, False])
def test_streams_a_large_file(executor: Executor, tmp_path: Path, compressible: bool) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    block = b"all work and no play " * 50_000
    source.write_bytes(block * 40 if compressible else os.urandom(30_000_000) + b"odd")
    assert executor.write_file(str(target), source)
    assert target.read_bytes() == source.read_bytes()
    assert not executor.write_file(str(target), source)
    assert executor.write_file(str(target), b"")
    assert target.read_bytes() == b""


def test_a_full_disk_leaves_the_old_file_and_no_part_of_the_new(
    executor: Executor, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    # Mounted in the server's own namespace.
    executor.check(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)])
    executor.write_file(f"{small}/file", b"old")
    with pytest.raises(HostUnfit, match="cannot be written") as caught:
        executor.write_file(f"{small}/file", os.urandom(2_000_000))
    assert "room" in (caught.value.hint or "")
    assert executor.read_file(f"{small}/file") == b"old"
    assert executor.check(["ls", "-A", str(small)]).output == "file\n"
    executor.check(["mount", "-o", "remount,nr_inodes=2", str(small)])
    with pytest.raises(HostUnfit):
        executor.write_file(f"{small}/other", b"one more")
    with pytest.raises(HostError, match="mounted"):
        executor.remove(str(tmp_path))
    executor.check(["umount", str(small)])


def test_a_disk_that_fills_while_writing(executor: Executor, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    executor.check(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)])
    source = tmp_path / "source"
    # The room is there when the write begins, and another program takes it meanwhile.
    source.write_bytes(os.urandom(20_000_000))
    script = f"dd if=/dev/zero of={small}/hog bs=1M count=20 2>&1; rm {small}/hog"
    executor.check(
        ["sh", "-c", f"(until [ -e {small}/.file.sappers-new ]; do :; done; {script}) &"]
    )
    with contextlib.suppress(HostUnfit):
        executor.write_file(f"{small}/file", source)
    assert executor.stat([f"{small}/.file.sappers-new"]) == {f"{small}/.file.sappers-new": None}
    assert executor.check(["echo", "still there"]).output == "still there\n"
    hog = f"{small}/hog"
    wait_until("what filled the disk is gone", lambda: executor.stat([hog])[hog] is None)
    executor.check(["umount", str(small)])


def test_reads_and_stats(executor: Executor, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\x00\xff")
    path.chmod(0o604)
    (tmp_path / "link").symlink_to("file")
    names = ["file", "link", "none", "."]
    found = executor.stat([str(tmp_path / name) for name in names], digests=True)
    digest = hashlib.sha256(b"\x00\xff").hexdigest()
    assert found[str(path)] == FileStat("file", 0o604, "root", "root", 2, digest)
    link = found[str(tmp_path / "link")]
    assert link is not None
    assert (link.kind, link.target) == ("link", "file")
    assert found[str(tmp_path / "none")] is None
    folder = found[str(tmp_path)]
    assert folder is not None
    assert folder.kind == "folder"
    assert executor.read_file(str(path)) == b"\x00\xff"
    assert executor.read_file(str(tmp_path / "none")) is None
    assert executor.read_file("/proc/self/comm") is not None
    with pytest.raises(HostError, match="larger"):
        executor.read_file(str(path), max_bytes=1)
    with pytest.raises(HostError, match="no regular file"):
        executor.read_file(str(tmp_path))


def test_folders_links_and_removal_are_idempotent(executor: Executor, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    for check in (True, False):
        assert executor.ensure_folder(str(folder), mode=0o2750, check=check)
        assert folder.exists() is not check
    assert folder.stat().st_mode & 0o7777 == 0o2750
    assert folder.parent.stat().st_mode & 0o7777 == 0o755
    assert not executor.ensure_folder(str(folder), mode=0o2750)
    assert executor.ensure_folder(str(folder), mode=0o700, owner="mere")
    link = folder / "link"
    for target in ("one", "two"):
        assert executor.ensure_link(str(link), target, check=True)
        assert executor.ensure_link(str(link), target)
        assert not executor.ensure_link(str(link), target)
        assert link.readlink() == Path(target)
    (tmp_path / "outside").mkdir()
    assert executor.ensure_link(str(folder / "out"), str(tmp_path / "outside"))
    assert executor.remove(str(tmp_path / "a"), check=True)
    assert executor.remove(str(tmp_path / "a"))
    assert not executor.remove(str(tmp_path / "a"))
    assert (tmp_path / "outside").exists()


def test_refuses_what_would_do_harm(executor: Executor, tmp_path: Path) -> None:
    for path in ("/", "/etc", "/usr/..", str(tmp_path) + "/../../../../../../etc"):
        with pytest.raises(HostError, match="not removed"):
            executor.remove(path, check=True)
    with pytest.raises(HostError, match="folder is in its place"):
        executor.write_file(str(tmp_path), b"")
    with pytest.raises(HostError, match="folder is in its place"):
        executor.ensure_link(str(tmp_path), "target")
    with pytest.raises(HostError, match="no user"):
        executor.write_file(str(tmp_path / "file"), b"", owner="nobody-there")
    with pytest.raises(HostError, match="No such file"):
        executor.write_file(str(tmp_path / "no" / "file"), b"")
    with pytest.raises(SappersError, match="cannot be read"):
        executor.write_file(str(tmp_path / "file"), tmp_path / "missing")
    assert executor.check(["echo", "fine"]).output == "fine\n"


def test_a_user_who_may_not_is_told(server: SshServer, tmp_path: Path, home: None) -> None:
    host = make_host(server, tmp_path, ansible_user="mere")
    with Connection.open(host) as connection:
        executor = connection.start_executor()
        with pytest.raises(PrivilegeError, match="Permission denied"):
            executor.write_file(str(server.folder / "file"), b"")
        with pytest.raises(PrivilegeError):
            executor.read_file("/etc/shadow")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_home(tmp_path, monkeypatch)


def test_a_lock_lasts_as_long_as_its_executor(
    connection: Connection, executor: Executor, tmp_path: Path
) -> None:
    path = str(tmp_path / "lock")
    executor.acquire_lock(path, "run 1 of ada")
    executor.acquire_lock(path, "run 1 of ada")
    assert Path(path).stat().st_mode & 0o077 == 0  # another user could hold it otherwise
    other = connection.start_executor()
    with pytest.raises(LockHeld) as caught:
        other.acquire_lock(path, "run 2 of bob")
    assert caught.value.holder == "run 1 of ada"
    # A program that the holder started must not inherit the lock.
    left = executor.check(["sh", "-c", "sleep 300 >/dev/null 2>&1 & echo $!"])
    executor.close()
    other.acquire_lock(path, "run 2 of bob")
    assert Path(path).read_text() == "run 2 of bob\n"
    os.kill(int(left.output), signal.SIGKILL)


def test_the_executor_and_its_program_end_with_the_connection(
    connection: Connection, executor: Executor, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    script = f"echo $$ $PPID > {pids}.new; mv {pids}.new {pids}; exec sleep 300"

    def work() -> None:
        with pytest.raises(HostUnreachable):
            executor.run(["sh", "-c", script], timeout_seconds=300)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until("the program runs", pids.exists)
    program, itself = (int(word) for word in pids.read_text().split())
    assert alive(program)
    connection.close()
    thread.join(90)
    assert not thread.is_alive()
    wait_until("both are ended", lambda: not alive(program) and not alive(itself))


def test_a_write_that_is_cut_off_leaves_no_part(
    server: SshServer, connection: Connection, executor: Executor, tmp_path: Path
) -> None:
    source, folder = tmp_path / "source", tmp_path / "there"
    folder.mkdir()
    source.write_bytes(os.urandom(1_000_000) * 150)
    beside = folder / ".file.sappers-new"
    session = server.sessions()

    def cut() -> None:
        wait_until(
            "a part is written", lambda: beside.exists() and beside.stat().st_size > 1_000_000
        )
        for pid in session:
            os.kill(pid, signal.SIGKILL)

    cutter = threading.Thread(target=cut)
    cutter.start()
    with pytest.raises(HostUnreachable):
        executor.write_file(str(folder / "file"), source)
    cutter.join()
    wait_until("what was half written is gone", lambda: not list(folder.iterdir()))


def test_a_killed_executor_is_noticed(executor: Executor) -> None:
    with pytest.raises(HostUnreachable):
        executor.run(["sh", "-c", "kill -9 $PPID; sleep 1"])
    with pytest.raises(HostUnreachable, match="executor is gone"):
        executor.gather_facts()


def test_nothing_stays_on_the_host(connection: Connection, executor: Executor) -> None:
    script = "import os,sys; sys.stdout.write(open('/proc/%d/cmdline' % os.getppid()).read())"
    command = executor.check(["python3", "-c", script]).output
    assert "-c" in command
    assert "class " not in command
