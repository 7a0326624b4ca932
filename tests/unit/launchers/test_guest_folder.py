"""A guest's folder: what is left, what is kept, and that nothing in it is trusted."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sappers.errors import LaunchError
from sappers.launchers.guest_folder import GuestFolder, Record, prune_logs, read_tail
from sappers.launchers.guest_identity import CONTROL_SOCKET, SERIAL_LOG

RECORD = Record("hello-1", 1.0)


def files(folder: Path) -> dict[str, Path]:
    return {name: folder / name for name in ("kernel", "initrd")}


@pytest.fixture
def folder(tmp_path: Path) -> GuestFolder:
    for name in ("kernel", "initrd"):
        (tmp_path / name).write_text(name)
    it = GuestFolder(tmp_path / "guests", "hello-1")
    it.prepare(RECORD, files(tmp_path), None)
    return it


@pytest.mark.parametrize(
    "wrong", ["", ".", "..", "../../..-1", "/etc", "a/b", ".making", "A", "a\n", "a" * 61]
)
def test_what_is_no_allocation_id_names_no_folder(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(LaunchError, match="no allocation id"):
        GuestFolder(tmp_path, wrong)


def test_blobs_cost_nothing_and_survive_pruning(folder: GuestFolder, tmp_path: Path) -> None:
    assert (folder.run / "kernel").stat().st_ino == (tmp_path / "kernel").stat().st_ino
    (tmp_path / "kernel").unlink()
    assert (folder.run / "kernel").read_text() == "kernel"


@pytest.mark.parametrize("content", [b"", b"{", b'{"allocation_id": "\xff"}', b"[" * 100_000])
def test_a_damaged_record_is_none(folder: GuestFolder, content: bytes) -> None:
    (folder.path / "record.json").write_bytes(content)
    assert folder.record() is None


def test_a_record_that_cannot_be_read_is_none_but_for_want_of_descriptors(
    folder: GuestFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = errno.EIO

    def fail(_: Path) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", fail)
    assert folder.record() is None
    number = errno.EMFILE
    with pytest.raises(OSError, match="Too many open files"):
        folder.record()


def test_folders_are_private(folder: GuestFolder) -> None:
    for path in (folder.path, folder.run):
        assert path.stat().st_mode & 0o777 == 0o700
    assert (folder.path / "record.json").stat().st_mode & 0o777 == 0o600


def test_only_the_log_is_kept(folder: GuestFolder) -> None:
    (folder.run / SERIAL_LOG).write_text("last words")
    folder.clear()
    assert [path.name for path in folder.path.iterdir()] == [SERIAL_LOG]
    assert folder.serial_log(5) == "words"
    assert folder.record() is None


def test_a_new_start_begins_a_new_log(folder: GuestFolder, tmp_path: Path) -> None:
    (folder.run / SERIAL_LOG).write_text("old")
    folder.clear()
    (tmp_path / "kernel").touch()
    folder.prepare(RECORD, files(tmp_path), None)
    assert folder.serial_log(100) == ""


def test_a_talkative_guest_cannot_fill_the_disk(folder: GuestFolder) -> None:
    log = folder.run / SERIAL_LOG
    log.write_bytes(b"x" * (9 << 20) + b"end")
    folder.trim_log()
    assert log.stat().st_size == 1 << 20
    assert folder.serial_log(3) == "end"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_not_read(folder: GuestFolder, tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret" * 2_000_000)
    log = folder.run / SERIAL_LOG
    log.unlink()
    if kind == "link":
        log.symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(log)
    else:
        log.mkdir()
    assert read_tail(log, 100) == ""
    folder.trim_log()
    folder.clear()
    assert secret.stat().st_size == 12_000_000
    assert "secret" not in (folder.serial_log(100) or "")


def test_the_image_cannot_be_passed_off_as_the_log(folder: GuestFolder, tmp_path: Path) -> None:
    with (tmp_path / "kernel").open("wb") as blob:
        blob.truncate(9 << 20)
    (folder.run / "kernel").rename(folder.run / SERIAL_LOG)
    folder.trim_log()
    assert (tmp_path / "kernel").stat().st_size == 9 << 20


def test_a_folder_that_goes_deep_is_removed(folder: GuestFolder) -> None:
    here = os.open(folder.run, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    folder.clear()
    assert not folder.run.exists()


def test_nothing_starts_among_what_an_earlier_guest_left(
    folder: GuestFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "key.pem"
    secret.write_text("key")
    (folder.run / "events.in").unlink()
    (folder.run / "events.in").symlink_to(secret)
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)  # as on a file system with errors
    with pytest.raises(FileExistsError):
        folder.prepare(RECORD, files(tmp_path), None)
    assert secret.read_text() == "key"


async def test_sockets_are_reached_under_any_length_of_path(tmp_path: Path) -> None:
    folder = GuestFolder(tmp_path / ("x" * 120), "hello-1")
    folder.run.mkdir(parents=True)
    with listening(folder):
        (await folder.connect(CONTROL_SOCKET)).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user: needs root")
async def test_a_socket_that_is_not_the_guest_s_own_is_not_spoken_to(folder: GuestFolder) -> None:
    with listening(folder):
        os.chown(folder.run, 12345, 12345)
        with pytest.raises(PermissionError, match="user 0 listens there"):
            await folder.connect(CONTROL_SOCKET)


@contextlib.contextmanager
def listening(folder: GuestFolder) -> Iterator[None]:
    here = os.open(folder.run, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{here}/{CONTROL_SOCKET}")
        listener.listen()
        yield
    os.close(here)


def test_old_logs_are_forgotten_and_guests_are_not(tmp_path: Path) -> None:
    for number in range(60):
        folder = tmp_path / f"gone-{number:02}"
        folder.mkdir()
        os.utime(folder, (number, number))
    GuestFolder(tmp_path, "hello-1").path.mkdir()
    GuestFolder(tmp_path, "hello-1").write(RECORD)
    os.utime(tmp_path / "hello-1", (0, 0))
    prune_logs(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert "hello-1" in left and len(left) == 51
    assert "gone-09" not in left and "gone-10" in left
