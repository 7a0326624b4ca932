"""Two runs that know one machine by two names: each writes whole files, nothing of them is left."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sappers.provisioner.modules import step
from sappers.provisioner.remote import archives, beside, files

OLD, FIRST, SECOND = b"old\n", b"first " * 100_000, b"second " * 100_000


def write(path: Path, content: bytes, between: Iterator[bytes] | None = None) -> None:
    digest = hashlib.sha256(content).hexdigest()
    ids = str(os.getuid()), str(os.getgid())
    new = files.FileWrite(str(path), 0o640, *ids, len(content), digest)
    new.write(iter([content]) if between is None else between)


def test_one_that_writes_while_another_does_leaves_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)

    def in_parts() -> Iterator[bytes]:
        yield FIRST[:1000]
        write(path, SECOND)  # by the other name of the machine
        assert path.read_bytes() == SECOND
        yield FIRST[1000:]

    write(path, FIRST, in_parts())
    assert path.read_bytes() == FIRST
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_one_that_fails_takes_away_its_own_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def in_parts() -> Iterator[bytes]:
        yield FIRST[:1000]
        with pytest.raises(files.Refused, match="changed"):
            write(path, FIRST, iter([SECOND]))
        yield FIRST[1000:]

    write(path, FIRST, in_parts())
    assert path.read_bytes() == FIRST
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["file", "link", "pipe"])
def test_what_a_killed_run_left_is_taken_away(tmp_path: Path, kind: str) -> None:
    left, outside = tmp_path / ".file.sappers-new", tmp_path / "outside"
    outside.write_bytes(OLD)
    if kind == "file":
        left.write_bytes(FIRST[:1000])
    elif kind == "link":
        left.symlink_to(outside)
    else:
        os.mkfifo(left)
    write(tmp_path / "file", FIRST)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "outside"]
    assert outside.read_bytes() == OLD


def test_many_at_once_put_whole_files_there_and_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    contents = [letter * 200_000 for letter in (b"a", b"b", b"c", b"d")]
    seen: set[bytes] = set()

    def often(content: bytes) -> None:
        for _ in range(40):
            write(path, content)
            seen.add(path.read_bytes())

    threads = [threading.Thread(target=often, args=(one,)) for one in contents]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert seen <= set(contents)
    assert path.read_bytes() in contents
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_name_is_given_back(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        first, second = beside.Beside("file", folder), beside.Beside("file", folder)
        assert (first.name, second.name != first.name) == (".file.sappers-new", True)
        first.close()  # as the system does when a run is killed
        third = beside.Beside("file", folder)
        assert third.name == first.name
        for one in (second, third):
            one.remove()
            one.close()
    finally:
        os.close(folder)
    assert list(tmp_path.iterdir()) == []


def test_two_that_unpack_at_once_leave_each_other_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def archive(content: bytes) -> io.BytesIO:
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            info = tarfile.TarInfo("file")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        made.seek(0)
        return made

    def unpack(content: bytes) -> None:
        member = step.Member("file", "file", 0o644, os.getuid(), os.getgid(), len(content), 1, "")
        archives.unpack(archive(content), str(tmp_path), (member,))

    synced = os.sync

    def meanwhile() -> None:
        monkeypatch.setattr(os, "sync", synced)
        unpack(SECOND)  # all of it, while the first has its files still beside their places
        write(tmp_path / "file", OLD)

    monkeypatch.setattr(os, "sync", meanwhile)
    unpack(FIRST)
    assert (tmp_path / "file").read_bytes() == FIRST
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
